"""What can go wrong, as one tree.

AqueductError                 a code of the table of texts, and its fields
└── UpstreamError             the agent's server, not us
    ├── UpstreamUnreachable   refused, unknown host, TLS, no route
    ├── UpstreamRefused       an HTTP status of 400 or more
    ├── UpstreamSilent        nothing came in the time allowed
    └── UpstreamBroken        the stream was cut short, unreadable or said `error`
"""

from collections.abc import Mapping
from typing import Any


class AqueductError(Exception):
    """An error a user is told of: `code` names the sentence, `fields` fill it."""

    def __init__(self, code: str, **fields: Any) -> None:
        super().__init__(code)
        self.code = code
        self.fields: Mapping[str, Any] = fields

    def __repr__(self) -> str:
        fields = ", ".join(f"{key}={value!r}" for key, value in self.fields.items())
        return f"{type(self).__name__}({self.code}: {fields})"

    __str__ = __repr__


class UpstreamError(AqueductError):
    """The agent's server failed; nothing of our own is at fault."""


class UpstreamUnreachable(UpstreamError):
    """No connection came about."""


class UpstreamRefused(UpstreamError):
    """The server answered with an HTTP status of 400 or more."""

    def __init__(self, code: str, status: int, **fields: Any) -> None:
        super().__init__(code, status=status, **fields)
        self.status = status


class UpstreamSilent(UpstreamError):
    """Nothing came for as long as the configuration allows."""


class UpstreamBroken(UpstreamError):
    """The stream ended early, could not be read, or carried an error."""
