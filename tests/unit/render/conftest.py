"""Open WebUI's own code, for the tests of what it is given."""

from tests.unit.render.host import open_webui

__all__ = ["open_webui"]
