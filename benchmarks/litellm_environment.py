"""An environment of its own for LiteLLM, which nothing of ours needs to run."""

from __future__ import annotations

import subprocess
import sys
import venv

from devkit.paths import ROOT

FOLDER = ROOT / ".cache" / "bench-litellm"
REQUIREMENTS = ROOT / "requirements" / "bench-litellm.txt"


def litellm_python() -> str:
    """The interpreter of that environment, which is made when it is missing or old."""
    python = str(FOLDER / "bin" / "python")
    installed = FOLDER / "installed.txt"
    wanted = REQUIREMENTS.read_text("utf-8")
    if not installed.is_file() or installed.read_text("utf-8") != wanted:
        print(f"Installing {wanted.splitlines()[-1]} into {FOLDER} …", file=sys.stderr)
        venv.create(FOLDER, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        installed.write_text(wanted, "utf-8")
    return python
