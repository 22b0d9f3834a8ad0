"""The models that the agents pipe lists, and the one that explains mistakes."""

import asyncio
from typing import Any

from shared.agents.catalogue import AgentEntry, discover_models
from shared.agents.config import RESERVED_IDS, AgentConfig
from shared.agents.kinds.table import make_backend
from shared.agents.parsing import AgentsConfig
from shared.agents.roles import RoleAgent
from shared.host.models import publish_model
from shared.host.resources import shared_resource

PROBLEM_MODEL, EMPTY_MODEL = RESERVED_IDS

CONFIGURATION_EXAMPLE = """\
An agent is written like this:

```yaml
- id: my-agent
  name: My agent
  url: http://localhost:8000/v1
  model: my-model
  key: ${secret:MY_KEY}
```"""


async def list_models(config: AgentsConfig, pipe_id: str) -> list[dict[str, str]]:
    """The virtual models, in the order of AGENTS, as Open WebUI wants them."""
    # Change the name with the shape: a new version finds what an older one kept.
    kept: dict[str, Any] = shared_resource("discovered models 2", dict)
    published: set[str] = shared_resource("published models", set)
    per_agent = await asyncio.gather(*(entries_of(a, kept) for a in config.agents))
    entries = [entry for entries in per_agent for entry in entries]
    for entry in entries:
        described = f"{pipe_id}.{entry.id}\n{entry.name}\n{entry.agent.description}"
        if entry.agent.access == "public" and described not in published:
            model_id = f"{pipe_id}.{entry.id}"
            await publish_model(model_id, entry.name, entry.agent.description)
            published.add(described)
    models = [{"id": entry.id, "name": entry.name} for entry in entries]
    if config.problems:
        place = str(config.problems[0]).replace("`", "")  # no Markdown in a name
        name = clip(f"Agents: configuration error in {place}", 120)
        models.append({"id": PROBLEM_MODEL, "name": name})
    elif not config.agents:
        models.append({"id": EMPTY_MODEL, "name": "Agents: nothing configured yet"})
    return models


async def entries_of(agent: AgentConfig, kept: dict[str, Any]) -> list[AgentEntry]:
    """The virtual models of one agent: itself, its slots, or what its server offers."""
    if isinstance(agent, RoleAgent) and agent.offer_slots:
        slots = [(f"{agent.id}.{s}", f"{agent.label}: {s}") for s in agent.slots]
        names = [(agent.id, agent.label), *slots]
        return [AgentEntry(model_id, name, agent, "") for model_id, name in names]
    if not agent.discover:
        return [AgentEntry(agent.id, agent.label, agent, agent.model)]
    models = await discover_models(agent, make_backend(agent, ""), kept)
    return [
        AgentEntry(f"{agent.id}.{m.id}", f"{agent.label}: {m.name}", agent, m.id)
        for m in models
    ]


def clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def configuration_help(config: AgentsConfig) -> str:
    """What the model called "configuration error" answers: how to correct it."""
    lines = [f"- {problem}" for problem in config.problems]
    if lines:
        head = "The agents function has mistakes in its valve `AGENTS`"
    else:
        head = "The agents function has no agents yet: its valve `AGENTS` is empty"
    place = "(Admin Panel → Functions → Agents → the gear)."
    return "\n".join([f"{head} {place}", "", *lines, "", CONFIGURATION_EXAMPLE])
