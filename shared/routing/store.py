"""What keeps the queues: in this process, or for all replicas together."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.routing.settings import PoolSpec
from shared.routing.tickets import GateView, Grant, Standing, Ticket

LONGEST_PAUSE = 3600.0  # seconds, whatever an upstream asks for


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request gets no slot: BUSY or CLOSED, for about how many seconds.

    `cause` is the code of the error that shut the upstream.
    """

    reason: str
    seconds: float | None = None
    cause: str = ""


@dataclass(slots=True)
class QueuePlace:
    """A request of this process. When `settled` is done, it has a grant or a refusal.

    Who sets `moved` to a new future is told once that its standing has changed.
    """

    spec: PoolSpec
    ticket: Ticket
    settled: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    grant: Grant | None = None
    refusal: Refusal | None = None
    standing: Standing | None = None
    moved: "asyncio.Future[None] | None" = None

    def give(self, grant: Grant) -> None:
        self.grant = grant
        self._settle()

    def refuse(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self._settle()

    def tell(self, standing: Standing | None) -> None:
        self.standing = standing
        if self.moved is not None and not self.moved.done():
            self.moved.set_result(None)
        self.moved = None

    def _settle(self) -> None:
        if not self.settled.done():
            self.settled.set_result(None)


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as it stands: requests by class, by upstream, and what is shut."""

    waiting: tuple[int, ...]
    running: dict[str, int]
    gates: tuple[GateView, ...]


class QueueStore(Protocol):
    """Keeps the queues. Never raises: what it cannot share it keeps for itself.

    Objects of this protocol outlive a reload of the function: plain values and the
    attributes above are all that passes between old and new code.
    """

    async def enter(self, spec: PoolSpec, ticket: Ticket) -> QueuePlace:
        """Join the queue; the place may be settled already."""

    async def leave(self, place: QueuePlace, served: bool = False) -> None:
        """Give the place or the slot back, whatever state it is in; idempotent."""

    async def standing(self, place: QueuePlace) -> Standing | None:
        """Where the request stands in the queue; None when it has its turn."""

    async def succeeded(self, place: QueuePlace) -> bool:
        """The upstream has begun to answer; whether that opened it again."""

    async def failed(self, place: QueuePlace, code: str) -> bool:
        """The upstream failed in this way; whether it is left alone now."""

    async def pause(self, place: QueuePlace, code: str, seconds: float) -> None:
        """The upstream asked for a pause.

        At most LONGEST_PAUSE. A short one is waited for in the queue; past the budget
        of retries nobody is made to wait.
        """

    async def view(self, spec: PoolSpec) -> PoolView:
        """How the pool stands, all replicas together."""

    def share(self, counts: Mapping[str, Any]) -> None:
        """Publish what these counts will be in a few seconds."""

    async def publish(self, counts: bytes) -> None:
        """Let other replicas see this one's counts, for an hour."""

    async def published(self) -> Sequence[bytes]:
        """The counts of all replicas, this one's among them; empty without Redis."""
