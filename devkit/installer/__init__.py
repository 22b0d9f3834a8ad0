"""Installs the suite into a running Open WebUI over its REST API."""

from devkit.installer.client import Stored, WebUIClient
from devkit.installer.install import Installer
from devkit.installer.steps import Change, State, Step

__all__ = ["Change", "Installer", "State", "Step", "Stored", "WebUIClient"]
