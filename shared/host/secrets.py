"""The secret that only Open WebUI's server knows."""


def server_secret() -> bytes:
    """WEBUI_SECRET_KEY, the same on all replicas; empty at most where nobody signs in."""
    from open_webui.env import WEBUI_SECRET_KEY

    return str(WEBUI_SECRET_KEY).encode()
