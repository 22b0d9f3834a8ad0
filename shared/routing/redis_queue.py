"""The queues of all replicas, in Redis; without it, each replica goes on by itself."""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from shared.routing.breaker import BreakerRecord, Shut, after_failure, after_success
from shared.routing.memory_queue import NO_RECORD, InProcessStore, failing_gate
from shared.routing.redis_wire import (
    REDIS_ERRORS,
    RedisWire,
    ScriptRefused,
    batches,
    pool_view,
    spec_json,
    ticket_json,
)
from shared.routing.settings import PoolSpec
from shared.routing.store import LONGEST_PAUSE, PoolView, QueuePlace, Refusal
from shared.routing.tickets import Grant, Standing, Ticket, gate_names

# After its last sign of life, what a replica holds is free again.
SLOT_LEASE_SECONDS = 7.5
TELL_REDIS_SECONDS = 1.0
STANDINGS_AT_ONCE = 50
REJOIN_SECONDS = (0.5, 5.0)  # the first pause before asking a lost Redis, and the last
REFUSED_SECONDS = 60.0  # the pause before asking one that does not run the script
COUNTS_SECONDS = 3600  # the page shows an hour, also of a replica that is gone
SHARE_SECONDS = 3.0  # from a request's end until its counts are told

redis_log = logging.getLogger("aqueduct.routing")


class RedisStore:
    """See QueueStore. `places` are the requests of this replica, whoever queues them.

    They are the truth: when Redis is lost they are put into queues of our own, and
    when it is back, or has forgotten us, they are told to it again.
    """

    def __init__(
        self,
        wire: RedisWire,
        block_seconds: float = 2.0,
        lease_seconds: float = SLOT_LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        refused_seconds: float = REFUSED_SECONDS,
    ) -> None:
        self.replica = new_replica()
        self.places: dict[str, QueuePlace] = {}
        self.online = True
        self._wire = wire
        self._lease = lease_seconds
        self._block = min(block_seconds, lease_seconds / 3)
        self._clock = clock
        self._local = InProcessStore(clock)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listener: asyncio.Task[None] | None = None
        self._telling: set[str] = set()
        self._next_beat = 0.0
        self._pause = REJOIN_SECONDS[0]
        self._refused = refused_seconds
        self._process = self.replica
        self._sharing: asyncio.TimerHandle | None = None

    # --- what the router asks ---

    async def enter(self, spec: PoolSpec, ticket: Ticket) -> QueuePlace:
        self._join()
        if not ticket.ahead:
            ticket.entered = self._clock()
        place = QueuePlace(spec, ticket)
        self.places[ticket.id] = place
        entering = self._task(self._enter(place))
        try:
            # Shielded: a request that is stopped now must not stay in Redis.
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            self._task(self._leave_after(entering, place))
            raise
        return place

    async def leave(self, place: QueuePlace, served: bool = False) -> None:
        if self.places.pop(place.ticket.id, None) is not None:
            await asyncio.shield(self._task(self._leave(place, served)))

    async def _leave_after(
        self, entering: asyncio.Task[None], place: QueuePlace
    ) -> None:
        await asyncio.wait([entering])
        await self.leave(place)

    async def standing(self, place: QueuePlace) -> Standing | None:
        if self.online:
            await self._tell([place])
        if self.online:
            return place.standing
        return await self._local.standing(place)

    async def succeeded(self, place: QueuePlace) -> bool:
        assert place.grant is not None
        if not self.online:
            return await self._local.succeeded(place)
        names = gate_names(place.grant.upstream, place.ticket)
        # Nobody should wait for a book to be kept.
        for name in names if place.grant.probe else names[:1]:
            self._task(self._record(place, name, succeeding))
        if place.grant.probe:
            await self._ask(place, "reopen", *names)
        return place.grant.probe

    async def failed(self, place: QueuePlace, code: str) -> bool:
        assert place.grant is not None
        if not self.online:
            return await self._local.failed(place, code)
        probing = place.grant.probe
        name = failing_gate(place, code)

        def failing(
            record: BreakerRecord, now: float
        ) -> tuple[BreakerRecord, Shut | None]:
            return after_failure(record, now, code, probing, place.spec.breaker)

        shut = await self._record(place, name, failing)
        if shut is not None:
            await self._shut(place, name, shut.seconds, code, False)
        return shut is not None

    async def pause(self, place: QueuePlace, code: str, seconds: float) -> None:
        assert place.grant is not None
        if not self.online:
            await self._local.pause(place, code, seconds)
            return
        seconds = min(seconds, LONGEST_PAUSE)
        short = seconds <= place.spec.retry.budget
        await self._shut(place, place.grant.upstream, seconds, code, short)

    async def view(self, spec: PoolSpec) -> PoolView:
        self._join()
        if self.online:
            try:
                seen = await self._wire.ask(spec.name, "view")
            except REDIS_ERRORS as error:
                self._lose(error)
            else:
                return pool_view(spec, seen)
        return await self._local.view(spec)

    def share(self, counts: Mapping[str, Any]) -> None:
        if self._sharing is None:
            loop = asyncio.get_running_loop()
            self._sharing = loop.call_later(SHARE_SECONDS, self._share, counts)

    def _share(self, counts: Mapping[str, Any]) -> None:
        self._sharing = None
        self._task(self.publish(json.dumps(counts).encode()))

    async def publish(self, counts: bytes) -> None:
        if self.online:
            try:
                await self._wire.put_counts(self._process, counts, COUNTS_SECONDS)
            except REDIS_ERRORS as error:
                self._lose(error)

    async def published(self) -> Sequence[bytes]:
        if self.online:
            try:
                return await self._wire.all_counts()
            except REDIS_ERRORS as error:
                self._lose(error)
        return []

    async def close(self) -> None:
        """Stop listening; what this replica holds is free when its lease ends."""
        running = [*self._tasks, *([self._listener] if self._listener else [])]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # --- requests in Redis ---

    async def _enter(self, place: QueuePlace) -> None:
        ticket = place.ticket
        if not self.online:
            self._local.pool(place.spec).enter(place)
            return
        given = ticket_json(ticket, self.replica, self._clock() - ticket.entered)
        letter = await self._ask(place, "enter", given, spec_json(place.spec))
        if letter is None:
            return
        if ticket.id not in self.places:  # it left meanwhile, perhaps before us
            await self._ask(place, "leave", ticket.id, 0)
            return
        self._deliver(letter)
        if letter.get("sticky"):
            self._loosen_later(place)

    async def _leave(self, place: QueuePlace, served: bool) -> None:
        if self.online:
            await self._ask(place, "leave", place.ticket.id, int(served))
        else:
            await self._local.leave(place, served)

    def _loosen_later(self, place: QueuePlace) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(place.spec.affinity.wait, self._loosen, place)

    def _loosen(self, place: QueuePlace) -> None:
        if self.online and not place.settled.done():
            self._task(self._ask(place, "loosen", place.ticket.id))

    async def _shut(
        self, place: QueuePlace, name: str, seconds: float, code: str, paused: bool
    ) -> None:
        await self._ask(place, "shut", name, seconds, code, int(paused))
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, self._opening, place)

    def _opening(self, place: QueuePlace) -> None:
        """Give slots when an upstream that was shut may be used again."""
        if self.online:
            self._task(self._ask(place, "check"))

    async def _record(
        self,
        place: QueuePlace,
        name: str,
        judge: Callable[[BreakerRecord, float], tuple[BreakerRecord, Shut | None]],
    ) -> Shut | None:
        """Change what is known of an upstream, whoever else changes it meanwhile."""
        try:
            for _ in range(5):
                before = await self._wire.get_record(place.spec.name, name)
                known = NO_RECORD
                if before:
                    known = BreakerRecord.from_json(json.loads(before))
                record, shut = judge(known, time.time())
                after = json.dumps(record.to_json())
                arguments = ("record", name, before, after)
                if await self._wire.ask(place.spec.name, *arguments):
                    return shut
        except REDIS_ERRORS as error:
            self._lose(error)
        return None

    async def _ask(self, place: QueuePlace, command: str, *arguments: Any) -> Any:
        """A command for the place's pool; None when Redis is lost over it."""
        if not self.online:
            return None
        try:
            return await self._wire.ask(place.spec.name, command, *arguments)
        except REDIS_ERRORS as error:
            self._lose(error)
            return None

    # --- what Redis tells ---

    def _join(self) -> None:
        """Listen from the first request on."""
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        task = asyncio.current_task()
        # The library makes an error of its own of a cancellation that hits a read.
        while task is not None and not task.cancelling():
            try:
                if self._clock() >= self._next_beat:
                    await self._beat()
                if not self.online:
                    await asyncio.sleep(self._pause)
                    self._pause = min(self._pause * 2, REJOIN_SECONDS[1])
                    await self._rejoin()
                letter = await self._wire.next_letter(self.replica, self._block)
                if self.online:
                    self._pause = REJOIN_SECONDS[0]
                if letter is not None:
                    self._deliver(letter)
            except REDIS_ERRORS as error:
                self._lose(error)

    def _deliver(self, letter: dict[str, Any]) -> None:
        if letter["kind"] == "moved":
            self._tell_later(letter["pool"])
        place = self.places.get(letter.get("id", ""))
        if place is None or place.settled.done():
            return
        if letter["kind"] == "grant":
            keys = ("id", "upstream", "affinity", "probe")
            place.give(Grant(*(letter[key] for key in keys)))
        elif letter["kind"] == "unknown":
            self._task(self._enter(place))
        elif letter["kind"] == "refusal":
            seconds = letter["seconds"] or None
            place.refuse(Refusal(letter["reason"], seconds, letter["cause"]))

    async def _beat(self) -> None:
        """Prolong the lease; where Redis does not know us, tell it all we hold.

        A letter can get lost with its connection, so those who wait are compared.
        """
        self._next_beat = self._clock() + self._lease / 3
        if not self.online:
            return
        known = await self._wire.ask("", "beat", self.replica, self._lease)
        if not known:
            await self._tell_all()
        waiting: dict[str, list[str]] = {}
        for place in self.places.values():
            if not place.settled.done():
                waiting.setdefault(place.spec.name, []).append(place.ticket.id)
        for pool, ids in waiting.items():
            for some in batches(ids, STANDINGS_AT_ONCE):
                for letter in await self._wire.ask(pool, "check", *some) or ():
                    self._deliver(letter)

    async def _tell_all(self) -> None:
        """Tell Redis of every request that runs or waits here."""
        for place in list(self.places.values()):
            ticket = place.ticket
            given = ticket_json(ticket, self.replica, self._clock() - ticket.entered)
            pool, spec = place.spec.name, spec_json(place.spec)
            if place.grant is not None:
                upstream = place.grant.upstream
                await self._wire.ask(pool, "adopt", given, upstream, spec)
            elif not place.settled.done():
                self._deliver(await self._wire.ask(pool, "enter", given, spec))
                if not place.settled.done():  # its timer may have run out meanwhile
                    self._loosen_later(place)
            if ticket.id not in self.places:  # it left while we spoke of it
                await self._wire.ask(pool, "leave", ticket.id, 0)

    def _lose(self, error: BaseException) -> None:
        """Go on without Redis, with the requests of this replica alone."""
        refused = isinstance(error, ScriptRefused)
        if refused:
            self._pause = self._refused
        if not self.online:
            return
        self.online = False
        if refused:
            redis_log.error("Redis does not run routing, queues are local: %s", error)
        else:
            redis_log.warning(
                "Redis is gone, queues are local until it is back: %r", error
            )
        for place in list(self.places.values()):
            self._local.pool(place.spec).take_over(place)

    async def _rejoin(self) -> None:
        """Under a new name: what left meanwhile is still there under the old one."""
        old, new = self.replica, new_replica()
        await self._wire.ask("", "beat", new, self._lease)
        self._local.forget()
        self.replica, self.online = new, True
        redis_log.warning("Redis is back, queues are shared again.")
        await self._tell_all()
        await self._wire.ask("", "beat", old, 0)

    # --- where those stand who wait ---

    def _tell_later(self, pool: str) -> None:
        if pool not in self._telling:
            self._telling.add(pool)
            loop = asyncio.get_running_loop()
            loop.call_later(TELL_REDIS_SECONDS, self._tell_pool, pool)

    def _tell_pool(self, pool: str) -> None:
        self._telling.discard(pool)
        places = (p for p in self.places.values() if p.spec.name == pool)
        self._task(self._tell([p for p in places if p.moved is not None]))

    async def _tell(self, places: Sequence[QueuePlace]) -> None:
        """Tell these requests, all of one pool, where they stand."""
        by_id = {place.ticket.id: place for place in places}
        for ids in batches([*by_id], STANDINGS_AT_ONCE):
            lines = await self._ask(by_id[ids[0]], "standings", self.replica, *ids)
            for ticket_id, position, total, seconds in lines or ():
                standing = Standing(int(position), int(total), seconds or None)
                by_id[ticket_id].tell(standing)

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that is kept until it is done."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def new_replica() -> str:
    return uuid.uuid4().hex[:12]


def succeeding(record: BreakerRecord, now: float) -> tuple[BreakerRecord, None]:
    return after_success(record, now), None
