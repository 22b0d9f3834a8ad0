"""Agents that speak A2A."""

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import field_validator

from shared.agents.config import HttpAgent
from shared.backends.a2a import A2ABackend
from shared.backends.addresses import HostRules
from shared.backends.base import Backend
from shared.backends.http import new_http_client
from shared.host.resources import shared_resource


class A2AAgent(HttpAgent):
    """An agent with a card: `url` is the card's address, or the one it lies below.

    `allow_hosts` are further hosts that the card may name, `deny_hosts` such that it
    may not; both with `*` and `?`.
    """

    binding: Literal["", "jsonrpc", "http+json"] = ""
    version: Literal["", "1.0", "0.3"] = ""
    allow_hosts: tuple[str, ...] = ()
    deny_hosts: tuple[str, ...] = ()

    @field_validator("version", mode="before")
    @classmethod
    def _as_text(cls, version: Any) -> Any:
        """In YAML 1.0 is a number."""
        return str(version) if isinstance(version, float) else version

    @field_validator("allow_hosts", "deny_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        if any("/" in host or ":" in host for host in hosts):
            raise ValueError("write host names, without `http://` and a port")
        return tuple(host.lower() for host in hosts)

    @property
    def rules(self) -> HostRules:
        own = urlsplit(self.url).hostname or ""
        return HostRules((own, *self.allow_hosts), self.deny_hosts)


def make_a2a(agent: A2AAgent, model: str) -> Backend:
    """The backend for the agent; a card has no models to choose among."""
    return A2ABackend(
        client=shared_resource("http client", new_http_client),
        public_client=shared_resource("public http client", new_public_client),
        endpoint=agent.endpoint,
        rules=agent.rules,
        binding=agent.binding,
        version=agent.version,
    )


def new_public_client() -> Any:
    """A client that connects to no private address."""
    return new_http_client(only_public=True)
