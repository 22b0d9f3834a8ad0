"""What a queue holds: requests, the slots they get, and what is shut."""

from dataclasses import dataclass

Rank = tuple[float, int]


@dataclass(slots=True)
class Ticket:
    """A request for one model call.

    `priority` is the place of its class in REQUEST_CLASSES, `affinity` the key of its
    chat or "", `excluded` what it has tried in vain. `ahead` puts it first in its
    class: it was served before and goes on, `entered` being when it first came.
    `login` is whose key it shows, where the upstreams have none of their own.
    """

    id: str
    user: str
    model: str
    priority: int = 0
    affinity: str = ""
    entered: float = 0.0
    ahead: bool = False
    excluded: frozenset[str] = frozenset()
    login: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """A slot. `affinity` says whether the chat was there before: kept, moved, new.

    `probe`: the upstream was shut, and this request tries it.
    """

    ticket_id: str
    upstream: str
    affinity: str
    probe: bool = False


@dataclass(slots=True)
class Waiting:
    """A request in one or two lanes; `overtaken` by so many that came later."""

    ticket: Ticket
    rank: Rank
    lanes: tuple[str, ...]
    overtaken: int = 0


@dataclass(slots=True)
class Running:
    ticket: Ticket
    upstream: str
    since: float


@dataclass(slots=True)
class Gate:
    """An upstream, or a part of it, that is shut. `probe` is who tries it."""

    until: float
    code: str
    paused: bool
    probe: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """A waiting request's place, from 1, of how many, and the seconds to expect.

    Those of lower classes do not count: they wait for it, not it for them.
    """

    position: int
    total: int
    seconds: float | None


def gate_names(upstream: str, ticket: Ticket) -> tuple[str, str, str]:
    """What can be shut to a request: an upstream, a model there, or its own login."""
    model = f"{upstream} {ticket.model}"
    return upstream, model, f"{model} ({ticket.login})"


@dataclass(frozen=True, slots=True)
class GateView:
    """What is shut now: `trying` when one request finds out whether it is well."""

    name: str
    code: str
    seconds: float
    paused: bool
    trying: bool
