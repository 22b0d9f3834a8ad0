"""One model call through a pool: wait for a slot, run, try again."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from shared.errors import AqueductError, UpstreamRefused, UpstreamUnreachable
from shared.events import AgentEvent, SessionState, Status, Usage
from shared.ids import new_id
from shared.routing.breaker import LASTING_CODES
from shared.routing.dispatcher import BUSY
from shared.routing.failures import QueueError, joined_error
from shared.routing.retry import backoff_seconds, meaning_of
from shared.routing.settings import REQUEST_CLASSES, PoolSpec
from shared.routing.stats import RoutingStats, UpstreamStats
from shared.routing.store import QueuePlace, QueueStore, Refusal
from shared.routing.tickets import Standing, Ticket
from shared.texts import Sentence

# The cause of a pause that a server asked for: 429, 503, or words to that effect.
BUSY_SERVER = "busy_server"
# What is not told before the first word: of an attempt that fails nothing may stay.
UNSAID = (SessionState, Usage)


@dataclass(frozen=True, slots=True)
class RoutedUpstream:
    """An upstream that a request may be sent to.

    `run` begins the model call there; `health` returns when the server is well, and
    may raise UpstreamError. `names` are fields of sentences: its agent, its host.
    """

    run: Callable[[], AsyncGenerator[AgentEvent, None]]
    health: Callable[[], Any]
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RoutedCall:
    """Who wants what: one model call. `priority` and `login` as in Ticket.

    `goes_on`: somebody has half an answer and waits for the rest.
    """

    spec: PoolSpec
    upstreams: Mapping[str, RoutedUpstream]
    user: str
    model: str
    affinity: str
    priority: int
    sentence: Sentence
    goes_on: bool = False
    login: str = ""


@dataclass(slots=True)
class Progress:
    """How far one call has come. `status` is a line of ours that still shimmers,
    `waited` the seconds in queues, which the deadline is for.

    `excluded` are upstreams not to be asked next, `hopeless` those never to be asked
    again: their failure will not pass.
    """

    entered: float
    started: float | None = None
    waited: float = 0.0
    attempt: int = 0
    upstream: str = ""
    excluded: frozenset[str] = frozenset()
    hopeless: frozenset[str] = frozenset()
    errors: list[AqueductError] = field(default_factory=list)
    said: bool = False
    status: str = ""

    def show(self, text: str) -> Status:
        self.status = text
        return Status(text)

    def close(self, text: str = "") -> list[Status]:
        """End the line that shimmers, if there is one."""
        shown, self.status = self.status, ""
        return [Status(text or shown, True)] if shown else []


@dataclass(frozen=True, slots=True)
class Router:
    """Sends calls through the queues of `store`; `clock` in seconds."""

    store: QueueStore
    stats: RoutingStats
    clock: Callable[[], float] = time.monotonic

    async def run(self, call: RoutedCall) -> AsyncGenerator[AgentEvent, None]:
        """The events of the first attempt that says something.

        Raises QueueError when no slot was to be had, the upstream's error when it
        failed, and AttemptsFailed when several did.
        """
        progress = Progress(self.clock())
        while True:
            try:
                async with aclosing(self._attempt(call, progress)) as events:
                    async for event in events:
                        yield event
                return
            except AqueductError as error:
                if progress.said:
                    raise  # the partial answer stays, with this error below it
                no_slot = isinstance(error, QueueError)
                if not no_slot:
                    progress.errors.append(error)
                elif not progress.errors:
                    raise
                delay = self._delay(call, progress, no_slot)
                if delay is None:
                    raise joined_error(progress.errors) from error
            self._counts(call, progress.upstream).retried()
            failed = progress.errors[-1]
            yield progress.show(call.sentence("retrying", failed.fields))
            await asyncio.sleep(delay)

    async def _attempt(
        self, call: RoutedCall, progress: Progress
    ) -> AsyncGenerator[AgentEvent, None]:
        """Queue once, and run once."""
        progress.attempt += 1
        ticket = Ticket(
            new_id("ticket"),
            call.user,
            call.model,
            call.priority,
            call.affinity,
            progress.entered,
            ahead=call.goes_on or progress.attempt > 1,
            excluded=progress.excluded,
            login=call.login,
        )
        place = await self.store.enter(call.spec, ticket)
        served = False
        try:
            async with aclosing(self._turn(call, place, progress)) as waiting:
                async for status in waiting:
                    yield status
            async with aclosing(self._served(call, place, progress)) as events:
                async for event in events:
                    yield event
            served = True
        finally:
            await self.store.leave(place, served)
            self.store.share(self.stats.data)

    async def _turn(
        self, call: RoutedCall, place: QueuePlace, progress: Progress
    ) -> AsyncGenerator[Status, None]:
        """Wait for a slot, telling where the request stands; raises QueueError."""
        counts = self.stats.pool(call.spec.name)
        kind = REQUEST_CLASSES[call.priority]
        counts.queued(kind)
        came, why, told = self.clock(), "cancelled", False
        deadline = getattr(call.spec.queue.deadline, kind)
        try:
            if not place.settled.done():
                limit = came + deadline - progress.waited
                async with aclosing(self._wait(call, place, limit)) as notices:
                    async for notice in notices:
                        told = True
                        yield progress.show(notice)
            if place.refusal is not None:
                why = "refused"
                raise refused(place.refusal)
            if place.grant is None:
                why = "expired"
                raise QueueError("queue_expired", seconds=round(deadline))
            why = ""
        finally:
            seconds = self.clock() - came
            progress.waited += seconds
            if why:
                counts.left(kind, why)
            else:
                counts.waited(kind, seconds)
        if told:
            text = call.sentence("waited", {"seconds": math.ceil(seconds)})
            for status in progress.close(text):
                yield status

    async def _wait(
        self, call: RoutedCall, place: QueuePlace, limit: float
    ) -> AsyncGenerator[str, None]:
        """Lines to show, until the place is settled or the clock says `limit`."""
        told = self.clock() + call.spec.queue.notify_after
        await asyncio.wait([place.settled], timeout=min(told, limit) - self.clock())
        place.standing = await self.store.standing(place)
        shown = ""
        while not place.settled.done() and self.clock() < limit:
            text = standing_text(call.sentence, place.standing)
            if text and text != shown:
                shown = text
                yield text
            place.moved = asyncio.get_running_loop().create_future()
            changes = [place.settled, place.moved]
            await asyncio.wait(
                changes,
                timeout=max(0.0, limit - self.clock()),
                return_when=asyncio.FIRST_COMPLETED,
            )

    async def _served(
        self, call: RoutedCall, place: QueuePlace, progress: Progress
    ) -> AsyncGenerator[AgentEvent, None]:
        """Run on the upstream that the place was given, and learn from how it went."""
        assert place.grant is not None
        grant, progress.upstream = place.grant, place.grant.upstream
        if progress.started is None:
            progress.started = self.clock()
        upstream = call.upstreams.get(grant.upstream)
        if upstream is None:
            # Another replica, whose settings are newer or older, gave us this slot.
            raise UpstreamUnreachable("unreachable", host=grant.upstream)
        counts = self._counts(call, grant.upstream)
        counts.started(grant.affinity)
        begun = self.clock()
        answer = Answering(outcome="cancelled", first=begun)
        try:
            if grant.probe:
                counts.breaker("half_open")
                if call.spec.breaker.health:
                    await look_at(upstream)
            async with aclosing(upstream.run()) as events:
                async for event in events:
                    if isinstance(event, Usage):
                        answer.tokens = output_tokens(event.counts)
                    if progress.said:
                        yield event
                    elif isinstance(event, Status):
                        progress.status = ""  # it stands in the place of ours
                        yield event
                    else:
                        answer.held.append(event)
                        if isinstance(event, UNSAID):
                            continue
                        answer.first = self.clock()
                        counts.first_token(answer.first - begun)
                        for held in await self._begins(counts, place, progress, answer):
                            yield held
            for held in await self._begins(counts, place, progress, answer):
                yield held
            answer.outcome = ""
        except AqueductError as error:
            error.fields = {**upstream.names, **error.fields}
            answer.outcome = error.code
            await self._learn(call, place, progress, error)
            raise
        finally:
            seconds = self.clock() - answer.first
            counts.ended(answer.outcome, seconds=seconds, tokens=answer.tokens)

    async def _begins(
        self,
        counts: UpstreamStats,
        place: QueuePlace,
        progress: Progress,
        answer: "Answering",
    ) -> list[AgentEvent]:
        """The upstream answers: what was held back until now may be shown."""
        if progress.said:
            return []
        progress.said = True
        if await self.store.succeeded(place):
            counts.breaker("closed")
        return [*progress.close(), *answer.held]

    async def _learn(
        self,
        call: RoutedCall,
        place: QueuePlace,
        progress: Progress,
        error: AqueductError,
    ) -> None:
        """Tell the store how the upstream failed."""
        assert place.grant is not None
        meaning = meaning_of(error)
        if meaning.blame == "upstream":
            if await self.store.failed(place, error.code):
                self._counts(call, place.grant.upstream).breaker("open")
        elif meaning.blame == "pause":
            seconds = meaning.retry_after
            if seconds is None:
                seconds = backoff_seconds(progress.attempt, call.spec.retry)
            await self.store.pause(place, BUSY_SERVER, seconds)

    def _delay(
        self, call: RoutedCall, progress: Progress, no_slot: bool
    ) -> float | None:
        """The seconds until the next attempt, or None when the last error stands.

        Other upstreams are asked at once; when all failed, or the others gave no slot,
        those whose failure may pass are asked again.
        """
        rules, meaning = call.spec.retry, meaning_of(progress.errors[-1])
        assert progress.started is not None
        left = rules.budget - (self.clock() - progress.started)
        if progress.attempt >= rules.attempts or meaning.blame == "request" or left < 0:
            return None
        names = {upstream.id for upstream in call.spec.upstreams}
        if not no_slot:
            progress.excluded |= {progress.upstream}
            if not meaning.again:
                progress.hopeless |= {progress.upstream}
            if names - progress.excluded:
                return 0.0
        elif progress.excluded == progress.hopeless:
            return None
        progress.excluded = progress.hopeless
        jitter = backoff_seconds(progress.attempt, rules)
        delay = max(jitter, meaning.retry_after or 0.0)
        return delay if names - progress.hopeless and delay <= left else None

    def _counts(self, call: RoutedCall, upstream: str) -> UpstreamStats:
        return self.stats.pool(call.spec.name).upstream(upstream)


@dataclass(slots=True)
class Answering:
    """One attempt: what was said before anybody could see it, and how it ended."""

    outcome: str
    first: float
    tokens: int = 0
    held: list[AgentEvent] = field(default_factory=list)


async def look_at(upstream: RoutedUpstream) -> None:
    """Raise UpstreamError when the server is ill."""
    try:
        await upstream.health()
    except UpstreamRefused as error:
        # A server without what is asked for is there all the same.
        if error.status not in (404, 405, 501):
            raise


def refused(refusal: Refusal) -> QueueError:
    """The error for a request that the queue did not take."""
    seconds = None if refusal.seconds is None else math.ceil(refusal.seconds)
    if refusal.reason != BUSY and refusal.cause in LASTING_CODES:
        return QueueError(refusal.cause)
    if refusal.reason != BUSY and refusal.cause != BUSY_SERVER:
        return QueueError("upstreams_shut", seconds=seconds or 0)
    if seconds is None:
        return QueueError("queue_busy")
    return QueueError("queue_busy_wait", seconds=seconds)


def standing_text(sentence: Sentence, standing: Standing | None) -> str:
    """A place in the queue in words; seconds in steps that suit so rough a guess."""
    if standing is None:
        return ""
    fields = {"position": standing.position, "total": standing.total}
    if standing.seconds is None:
        return sentence("waiting", fields)
    step = 5 if standing.seconds < 60 else 30
    seconds = max(1, math.ceil(standing.seconds / step)) * step
    return sentence("waiting_time", fields | {"seconds": seconds})


def output_tokens(counts: Mapping[str, Any]) -> int:
    """Tokens of the answer, by the name that this API gives them."""
    for name in ("completion_tokens", "output_tokens"):
        if isinstance(counts.get(name), int):
            return counts[name]
    return 0
