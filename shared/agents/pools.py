"""Servers, and pools of them, as the AGENTS valve names them."""

from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from shared.routing.settings import (
    AffinitySettings,
    BreakerSettings,
    QueueSettings,
    RetrySettings,
)

POOL_NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class HttpServer(BaseModel):
    """Where a server is, and what it wants to see."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://", repr=False)
    key: SecretStr = SecretStr("")
    headers: dict[str, SecretStr] = {}

    @field_validator("url")
    @classmethod
    def _has_a_host(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = parts.port is None or parts.port > 0
        except ValueError as error:
            raise ValueError("this is not a valid address") from error
        if not (parts.hostname and usable):
            raise ValueError("the address names no host")
        return url

    @field_validator("key", "headers")
    @classmethod
    def _can_be_sent(cls, value: Any) -> Any:
        """HTTP headers are ASCII; the message must not hold the value."""
        secrets = value.values() if isinstance(value, dict) else [value]
        for secret in secrets:
            text = secret.get_secret_value()
            if not (text.isascii() and text.isprintable()):
                raise ValueError("there is a character that no HTTP header can hold")
            if "${" in text:
                raise ValueError("write ${env:NAME} or ${secret:NAME}")
        return value


class UpstreamSettings(HttpServer):
    """One server of a pool. What it does not say of key, headers and model, the
    agent says."""

    model: str = ""
    concurrency: int = Field(default=1, ge=1, le=100_000)
    weight: float = Field(default=1.0, gt=0)


class PoolRules(BaseModel):
    """The rules of a queue; where none is given, requests are not queued at all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    queue: QueueSettings | None = None
    affinity: AffinitySettings | None = None
    retry: RetrySettings | None = None
    breaker: BreakerSettings | None = None


class PoolEntry(PoolRules):
    """An entry of AGENTS that is a pool: servers that several agents share."""

    pool: str = Field(pattern=POOL_NAME)
    upstreams: tuple[UpstreamSettings, ...] = Field(min_length=1)
