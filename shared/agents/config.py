"""What an entry of the AGENTS valve may say, whatever protocol the agent speaks."""

from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from shared.backends.http import Endpoint, Timeouts

# Models of the pipe that are no agents.
RESERVED_IDS = ("configuration-error", "not-configured")


class TimeoutSettings(BaseModel):
    """Seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect: float = Field(default=10.0, gt=0)
    first_token: float = Field(default=120.0, gt=0)
    between_tokens: float = Field(default=120.0, gt=0)


class AllowedTool(BaseModel):
    """What an agent may do without asking: shell-style patterns of names and paths."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool: str = "*"
    paths: tuple[str, ...] = ()


class ApprovalSettings(BaseModel):
    """What becomes of an agent's requests for permission."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["ask", "deny"] = "ask"
    allow: tuple[AllowedTool, ...] = ()
    seconds: int = Field(default=120, ge=60, le=240)


class AgentConfig(BaseModel):
    """One entry of AGENTS. docs/agents.md explains every key."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    # The keys in which ${env:NAME} and ${secret:NAME} are filled in.
    WITH_VARIABLES: ClassVar[tuple[str, ...]] = ()

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    name: str = ""
    description: str = ""
    backend: str = "openai"
    model: str = ""
    system: str = ""
    params: dict[str, Any] = {}
    timeouts: TimeoutSettings = TimeoutSettings()
    discover: bool = False
    session: bool = True
    tools: Literal["native", "execute", "passthrough", "suppress"] = "native"
    unknown_tool: Literal["error", "ignore", "passthrough"] = "error"
    max_tool_rounds: int = Field(default=10, ge=1, le=100)
    recover_tool_calls: bool = True
    task_model: str = ""
    files: Literal["text", "attach"] = "text"
    approvals: ApprovalSettings = ApprovalSettings()
    access: Literal["private", "public"] = "private"

    @field_validator("id")
    @classmethod
    def _is_not_ours(cls, agent_id: str) -> str:
        if agent_id in RESERVED_IDS:
            raise ValueError(f"`{agent_id}` is an id of our own")
        return agent_id

    @property
    def label(self) -> str:
        """The name users know."""
        return self.name or self.id

    @property
    def place(self) -> str:
        """Where the agent is, as far as users may be told: a host or a program."""
        return ""

    @property
    def timeout_seconds(self) -> Timeouts:
        return Timeouts(**self.timeouts.model_dump())


class HttpAgent(AgentConfig):
    """An agent that is reached over HTTP."""

    WITH_VARIABLES: ClassVar[tuple[str, ...]] = ("url", "key", "headers")

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

    @property
    def place(self) -> str:
        return self.endpoint.host

    @property
    def endpoint(self) -> Endpoint:
        """Where its server is and how to speak to it."""
        return Endpoint(
            agent=self.label,
            url=self.url,
            key=self.key.get_secret_value(),
            headers={k: v.get_secret_value() for k, v in self.headers.items()},
            timeouts=self.timeout_seconds,
        )
