"""The AGENTS valve: YAML in, agents and problems out."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import yaml
from pydantic import ValidationError

from shared.agents.config import AgentConfig, HttpAgent
from shared.agents.kinds.table import AGENT_KINDS, DEFAULT_BACKEND
from shared.agents.plans import PoolPlan, pool_plan
from shared.agents.pools import PoolEntry
from shared.agents.roles import RoleAgent

VARIABLE = re.compile(r"\$\{(env|secret):([A-Za-z_][A-Za-z0-9_]*)\}")
FIRST_ENTRY = re.compile(r"^ *- ", re.MULTILINE)
EntryLines = dict[tuple[str, ...], int]
# The keys that lead to what is wrong, and what is wrong with it.
Mistake = tuple[tuple[str, ...], str]
PLAIN_WORDS = {
    "extra_forbidden": "this key is not known",
    "missing": "this key is missing",
}
PATTERN_WORDS = {
    "id": "an id is made of a-z, 0-9, - and _, and begins with a letter or digit",
    "pool": "a name is made of a-z, 0-9, - and _, and begins with a letter or digit",
    "url": "an address begins with http:// or https://",
}


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """What is wrong with AGENTS, and where: `line` counts from 1."""

    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}"
        return (
            f"{place}, `{self.key}`: {self.message}"
            if self.key
            else f"{place}: {self.message}"
        )


@dataclass(frozen=True, slots=True)
class AgentsConfig:
    """The agents that can be used, and the problems of the entries that cannot."""

    agents: tuple[AgentConfig, ...] = ()
    problems: tuple[ConfigProblem, ...] = ()
    plans: Mapping[str, PoolPlan] = field(default_factory=dict)

    def find(self, agent_id: str) -> AgentConfig | None:
        return next((a for a in self.agents if a.id == agent_id), None)


@lru_cache(maxsize=8)
def parse_agents(text: str, secrets: str = "") -> AgentsConfig:
    """Read the AGENTS and SECRETS valves; never raises.

    `secrets` is a list of NAME=value, divided by white space. Every entry stands
    alone: a broken one is a problem and hides no other.
    """
    known = dict(pair.split("=", 1) for pair in secrets.split() if "=" in pair)
    agents: dict[str, AgentConfig] = {}
    pools: dict[str, PoolEntry] = {}
    lines: dict[str, EntryLines] = {}
    problems: list[ConfigProblem] = []
    nodes = entry_nodes(text, problems)
    for node, offset in sorted(nodes, key=lambda entry: not is_pool(entry[0])):
        entry = read_entry(node, offset, known, pools, problems)
        if entry is None:
            continue
        if isinstance(entry, PoolEntry):
            key, name = "pool", entry.pool
        else:
            key, name = "id", entry.id
        # An agent with servers of its own is the pool of its name.
        if name in agents or name in pools:
            line = node.start_mark.line + 1 + offset
            problems.append(ConfigProblem(line, key, f"`{name}` is used twice"))
            continue
        if isinstance(entry, PoolEntry):
            pools[name] = entry
            continue
        agents[entry.id] = entry
        lines[entry.id] = key_lines(node, offset)
    problems += strange_references(agents, lines)
    problems.sort(key=lambda problem: problem.line)
    plans = {agent.id: pool_plan(agent, pools) for agent in agents.values()}
    return AgentsConfig(tuple(agents.values()), tuple(problems), plans)


def is_pool(node: yaml.Node) -> bool:
    """Whether an entry is a pool, and no agent that names one."""
    if not isinstance(node, yaml.MappingNode):
        return False
    keys = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
    return "pool" in keys and "id" not in keys


def strange_references(
    agents: Mapping[str, AgentConfig], lines: Mapping[str, EntryLines]
) -> Iterator[ConfigProblem]:
    """Agents that another one falls back to, but which are not there."""
    for agent in agents.values():
        slots = agent.slots.values() if isinstance(agent, RoleAgent) else ()
        for key, names in (("fallback", agent.fallback), ("slots", slots)):
            for name in names:
                if name.partition(".")[0] not in agents:
                    line = lines[agent.id][(key,)]
                    yield ConfigProblem(line, key, f"there is no agent `{name}`")


def entry_nodes(
    text: str, problems: list[ConfigProblem]
) -> list[tuple[yaml.Node, int]]:
    """The nodes of the list's entries, each with the lines that stand above it.

    Where the text as a whole is no YAML, every top-level entry is read by itself,
    so that a slip in one leaves the others in use.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        part: list[ConfigProblem] = []
        starts = entry_starts(text)
        if len(starts) > 1:
            ends = [*starts[1:], len(text)]
            nodes = []
            for start, end in zip(starts, ends, strict=True):
                above = text.count("\n", 0, start)
                part.clear()
                found = entry_nodes(text[start:end], part)
                nodes += [(node, offset + above) for node, offset in found]
                problems += [replace(p, line=p.line + above) for p in part]
            return nodes
        problems.append(ConfigProblem(error_line(error, text), "", error_words(error)))
        return []
    if root is None:
        return []
    if not isinstance(root, yaml.SequenceNode):
        line = root.start_mark.line + 1
        message = "AGENTS has to be a list: each agent begins with `- id: …`"
        problems.append(ConfigProblem(line, "", message))
        return []
    return [(node, 0) for node in root.value]


def entry_starts(text: str) -> list[int]:
    """Where the pieces of a list begin: what stands above it, and every entry."""
    first = FIRST_ENTRY.search(text)
    if first is None:
        return []
    same = re.compile(f"^{first.group()}", re.MULTILINE)
    starts = [match.start() for match in same.finditer(text)]
    above = [line for line in text[: starts[0]].splitlines() if line.strip()]
    return [0, *starts] if any(line[0] != "#" for line in above) else starts


def error_line(error: Exception, text: str) -> int:
    """The line of a YAML error, counted from 1 and inside the text."""
    last = max(0, len(text.splitlines()) - 1)
    mark = getattr(error, "problem_mark", None)
    position = getattr(error, "position", None)
    if mark is not None:
        # What is never closed is noticed at the end; the context is where it opens.
        opened = getattr(error, "context_mark", None)
        line = opened.line if opened and mark.line >= last else mark.line
    else:
        line = text.count("\n", 0, position) if isinstance(position, int) else 0
    return min(line, last) + 1


def error_words(error: Exception) -> str:
    """What is wrong, without quoting a value: it may be a secret."""
    if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError):
        return str(error.problem or "this is not YAML")
    if isinstance(error, RecursionError):
        return "the brackets are nested too deeply"
    if isinstance(error, yaml.reader.ReaderError):
        return "there is a character that YAML does not allow"
    return "this value cannot be read; put it in quotes"


class UnusableEntry(Exception):
    """An entry that says what cannot be: the path and a sentence of each mistake."""

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__(mistakes)
        self.mistakes = mistakes


def read_entry(
    node: yaml.Node,
    offset: int,
    secrets: Mapping[str, str],
    pools: Mapping[str, PoolEntry],
    problems: list[ConfigProblem],
) -> AgentConfig | PoolEntry | None:
    """One entry as an agent or a pool, or None with its problems added."""
    first_line = node.start_mark.line + 1 + offset
    lines = key_lines(node, offset)
    try:
        settings, data = entry_data(node, secrets, pools)
        return settings.model_validate(data)
    except UnusableEntry as error:
        mistakes = error.mistakes
    except ValidationError as error:
        mistakes = tuple(map(mistake_of, error.errors()))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        first_line = mark.line + 1 + offset if mark else first_line
        mistakes = (((), error_words(error)),)
    for path, message in mistakes:
        line = lines.get(path[:2]) or lines.get(path[:1]) or first_line
        problems.append(ConfigProblem(line, shown_path(path), message))
    return None


def entry_data(
    node: yaml.Node, secrets: Mapping[str, str], pools: Mapping[str, PoolEntry]
) -> tuple[type[AgentConfig] | type[PoolEntry], dict[str, Any]]:
    """What an entry is to be, and its values, variables filled in.

    Raises UnusableEntry, and what PyYAML raises for values it cannot read.
    """
    if not isinstance(node, yaml.MappingNode):
        raise UnusableEntry(((), "an agent is written as `key: value` lines"))
    data = yaml.SafeLoader("").construct_document(node)
    kind = AGENT_KINDS.get(data.get("backend", DEFAULT_BACKEND))
    if kind is None:
        message = f"the protocols are {', '.join(AGENT_KINDS)}"
        raise UnusableEntry((("backend",), message))
    settings: type[AgentConfig] | type[PoolEntry] = kind.settings
    variables = kind.settings.WITH_VARIABLES
    if is_pool(node):
        settings, variables = PoolEntry, ("upstreams",)
    elif "slots" in data:
        settings = RoleAgent
    elif "pool" in data and issubclass(settings, HttpAgent):
        if data["pool"] not in pools:
            raise UnusableEntry((("pool",), f"there is no pool `{data['pool']}`"))
        data.setdefault("url", pools[data["pool"]].upstreams[0].url)
    missing: list[Mistake] = []
    for key in variables:
        if key in data:
            data[key] = fill_variables(data[key], key, secrets, missing)
    if missing:
        raise UnusableEntry(*missing)
    return settings, data


def mistake_of(detail: Mapping[str, Any]) -> Mistake:
    """One of pydantic's errors."""
    path = tuple(str(part) for part in detail["loc"])
    usual = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "string_pattern_mismatch":
        return path, PATTERN_WORDS.get(path[-1], usual)
    return path, PLAIN_WORDS.get(detail["type"], usual)


def shown_path(path: tuple[str, ...]) -> str:
    """The keys that lead to a problem, as far as they can be no secret.

    A blank forgotten behind a colon makes a key of a value.
    """
    shown: list[str] = []
    for part in path[:2]:
        if not re.fullmatch(r"[a-z_]{1,20}", part):
            break
        shown.append(part)
        if part == "headers":
            break
    return ".".join(shown)


def key_lines(node: yaml.Node, offset: int) -> EntryLines:
    """The line of each key, and of each key one level below; none of what has none."""
    lines: dict[tuple[str, ...], int] = {}
    if not isinstance(node, yaml.MappingNode):
        return lines
    for key, value in node.value:
        lines[(str(key.value),)] = key.start_mark.line + 1 + offset
        if isinstance(value, yaml.MappingNode):
            for inner, _ in value.value:
                path = (str(key.value), str(inner.value))
                lines[path] = inner.start_mark.line + 1 + offset
    return lines


def fill_variables(
    value: Any,
    key: str,
    secrets: Mapping[str, str],
    missing: list[Mistake],
) -> Any:
    """Replace `${env:NAME}` and `${secret:NAME}`; what is not set goes to `missing`."""
    if isinstance(value, dict):
        return {k: fill_variables(v, key, secrets, missing) for k, v in value.items()}
    if isinstance(value, list):
        return [fill_variables(v, key, secrets, missing) for v in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        kind, name = match.groups()
        source: Mapping[str, str] = os.environ if kind == "env" else secrets
        if name not in source:
            where = "environment" if kind == "env" else "SECRETS valve"
            missing.append(((key,), f"`{name}` is not set in the {where}"))
        return source.get(name, "").strip()

    return VARIABLE.sub(fill, value)
