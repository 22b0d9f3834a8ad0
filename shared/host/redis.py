"""The Redis that Open WebUI's replicas share."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class HostRedis:
    """Open WebUI's own connection: single server, Sentinel or cluster.

    `prefix` begins all of its keys. A command may take at most `patience` seconds, or
    any time where that is None.
    """

    client: Any
    prefix: str
    patience: float | None


def host_redis() -> HostRedis | None:
    """What REDIS_URL and the variables beside it name, or None without them."""
    from open_webui.env import REDIS_KEY_PREFIX, REDIS_SOCKET_TIMEOUT
    from open_webui.utils.redis import get_redis_client

    client = get_redis_client(async_mode=True)
    if client is None:
        return None
    return HostRedis(client, REDIS_KEY_PREFIX, REDIS_SOCKET_TIMEOUT or None)
