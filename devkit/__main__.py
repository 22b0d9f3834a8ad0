"""`python -m devkit`: builds, checks and installs the suite."""

from devkit.cli import main

main()
