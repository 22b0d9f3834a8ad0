"""The errors a person at the keyboard can put right.

DevkitError
├── ManifestError   manifest.json does not hold what its model asks for
├── BuildError      a source breaks a rule of the bundler
└── InstallError    Open WebUI refused, or something stands in the way of a safe change

The message is a whole sentence that names the place; the command line prints it
without a traceback and ends with exit code 1.
"""

from __future__ import annotations


class DevkitError(Exception):
    """Base of what the command line shows as one sentence."""


class ManifestError(DevkitError):
    """manifest.json cannot be used."""


class BuildError(DevkitError):
    """A source file breaks a rule of the bundler."""


class InstallError(DevkitError):
    """An installation, rollback or removal did not happen."""
