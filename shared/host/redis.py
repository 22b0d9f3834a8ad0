"""The Redis that Open WebUI's replicas share."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class HostRedis:
    """A connection of Open WebUI's making: single server, Sentinel or cluster.

    `prefix` begins all of its keys. A command may take at most `patience` seconds, or
    any time where that is None.
    """

    client: Any
    prefix: str
    patience: float | None


def host_redis(url: str = "") -> HostRedis | None:
    """The single server at `url`; without it what Open WebUI's own REDIS_URL and the
    variables beside it name, or None where they name nothing.

    Raises ValueError for a `url` that is none.
    """
    from open_webui.env import REDIS_KEY_PREFIX, REDIS_SOCKET_TIMEOUT
    from open_webui.utils.redis import get_redis_client, get_redis_connection

    if url:
        client = get_redis_connection(url, async_mode=True)
    else:
        client = get_redis_client(async_mode=True)
    if client is None:
        return None
    return HostRedis(client, REDIS_KEY_PREFIX, REDIS_SOCKET_TIMEOUT or None)
