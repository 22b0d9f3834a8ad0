"""The protocols that an agent can speak, by the name that `backend` gives them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.agents.config import AgentConfig
from shared.agents.kinds.a2a import A2AAgent, make_a2a
from shared.agents.kinds.acp import AcpAgent, make_acp
from shared.agents.kinds.adk import ADKAgent, make_adk
from shared.agents.kinds.agui import AGUIAgent, make_agui
from shared.agents.kinds.anthropic import AnthropicAgent, make_anthropic
from shared.agents.kinds.cli import CliAgent, make_cli
from shared.agents.kinds.langgraph import LangGraphAgent, make_langgraph
from shared.agents.kinds.letta import LettaAgent, make_letta
from shared.agents.kinds.openai import OpenAIAgent, make_openai
from shared.agents.kinds.webhook import WebhookAgent, make_webhook
from shared.backends.base import Backend

DEFAULT_BACKEND = "openai"


@dataclass(frozen=True, slots=True)
class AgentKind:
    """The keys of a protocol's entries, and what makes a backend of one.

    `make` gets an agent of class `settings` and one of its models ("" where none is
    named). `writes_titles` says that the agent is a plain model, cheap enough for
    Open WebUI's tasks; for others titles are made without it.
    """

    settings: type[AgentConfig]
    make: Callable[[Any, str], Backend]
    writes_titles: bool = False


AGENT_KINDS: Mapping[str, AgentKind] = {
    "openai": AgentKind(OpenAIAgent, make_openai, writes_titles=True),
    "anthropic": AgentKind(AnthropicAgent, make_anthropic, writes_titles=True),
    "acp": AgentKind(AcpAgent, make_acp),
    "cli": AgentKind(CliAgent, make_cli),
    "a2a": AgentKind(A2AAgent, make_a2a),
    "agui": AgentKind(AGUIAgent, make_agui),
    "letta": AgentKind(LettaAgent, make_letta),
    "langgraph": AgentKind(LangGraphAgent, make_langgraph),
    "webhook": AgentKind(WebhookAgent, make_webhook),
    "adk": AgentKind(ADKAgent, make_adk),
}


def make_backend(agent: AgentConfig, model: str) -> Backend:
    """The backend for one of the agent's models."""
    return AGENT_KINDS[agent.backend].make(agent, model)
