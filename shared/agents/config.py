"""What an entry of the AGENTS valve may say, whatever protocol the agent speaks."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared.agents.pools import HttpServer, PoolRules, UpstreamSettings
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


class AgentConfig(PoolRules):
    """One entry of AGENTS. docs/agents.md and docs/routing.md explain every key."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    # The keys in which ${env:NAME} and ${secret:NAME} are filled in.
    WITH_VARIABLES: ClassVar[tuple[str, ...]] = ()

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    name: str = ""
    description: str = ""
    backend: str = "openai"
    model: str = ""
    system: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
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
    pool: str = ""
    concurrency: int | None = Field(default=None, ge=1, le=100_000)
    fallback: tuple[str, ...] = ()

    @field_validator("id")
    @classmethod
    def _is_not_ours(cls, agent_id: str) -> str:
        if agent_id in RESERVED_IDS:
            raise ValueError(f"`{agent_id}` is an id of our own")
        return agent_id

    @model_validator(mode="after")
    def _leaves_rules_to_its_pool(self) -> "AgentConfig":
        if self.pool:
            own = {*PoolRules.model_fields, "concurrency", "upstreams"}
            if said := sorted(own & self.model_fields_set):
                raise ValueError(f"with `pool`, write `{said[0]}` there")
        return self

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


class HttpAgent(AgentConfig, HttpServer):
    """An agent that is reached over HTTP."""

    WITH_VARIABLES: ClassVar[tuple[str, ...]] = ("url", "key", "headers", "upstreams")

    upstreams: tuple[UpstreamSettings, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _is_where_its_upstreams_are(cls, data: Any) -> Any:
        """With `upstreams` an agent needs no `url` of its own."""
        upstreams = data.get("upstreams")
        if "url" in data or not (isinstance(upstreams, list) and upstreams):
            return data
        first = upstreams[0]
        return {**data, "url": first.get("url")} if isinstance(first, dict) else data

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
