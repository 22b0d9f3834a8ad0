"""Deltas joined for the screen: nothing lost, nothing late, nothing left running."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UpstreamBroken
from shared.events import (
    Citation,
    Finished,
    ReasoningDelta,
    Status,
    TextDelta,
    ToolCallArgumentsDelta,
)
from shared.render.joining import BACKLOG_EVENTS, joined
from tests.unit.backends.support import collect, text_of

PATIENCE = 10.0  # seconds until a condition that does not come about fails a test
HOURS = 3600.0


class Source:
    """Events for `joined`: None yields to the loop, an Event is waited for.

    `closed` is set when the generator has ended, whichever way.
    """

    def __init__(self, *script) -> None:
        self.script = script
        self.given = 0
        self.closed = asyncio.Event()

    async def events(self):
        try:
            for step in self.script:
                if step is None:
                    await asyncio.sleep(0)
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    self.given += 1
                    yield step
        finally:
            self.closed.set()


def merged(events):
    """What any joining comes to: neighbours of one kind as one."""
    result = []
    for event in events:
        if isinstance(event, TextDelta | ReasoningDelta):
            if result and type(result[-1]) is type(event):
                event = type(event)(result.pop().text + event.text)
            elif not event.text:
                continue
        result.append(event)
    return result


events = st.one_of(
    st.builds(TextDelta, st.text("ab", max_size=3)),
    st.builds(ReasoningDelta, st.text("ab", max_size=3)),
    st.builds(ToolCallArgumentsDelta, st.just("a"), st.text("ab", max_size=3)),
    st.just(Citation("https://x")),
    st.just(Status("looking")),
)
scripts = st.lists(events | st.none(), max_size=30)


@settings(deadline=None, max_examples=150)
@given(scripts, st.sampled_from([0.0, 0.001]))
def test_order_and_content_stay(script, frame):
    async def read():
        source = Source(*script)
        read = [event async for event in joined(source.events(), frame)]
        assert source.closed.is_set()
        return read

    said = [event for event in script if event is not None]
    assert merged(asyncio.run(read())) == merged(said)


async def test_the_first_event_goes_at_once_and_a_burst_is_one():
    gate = asyncio.Event()
    burst = [TextDelta("x")] * 500
    source = Source(TextDelta("first"), gate, *burst, Finished())
    async with asyncio.timeout(PATIENCE), aclosing(joined(source.events())) as read:
        assert await anext(read) == TextDelta("first")
        gate.set()
        assert [event async for event in read] == [TextDelta("x" * 500), Finished()]


async def test_an_event_after_a_pause_waits_for_nothing():
    gate = asyncio.Event()
    source = Source(TextDelta("a"), gate, TextDelta("b"), asyncio.Event())
    async with (
        asyncio.timeout(PATIENCE),
        aclosing(joined(source.events(), frame=0.01)) as read,
    ):
        assert await anext(read) == TextDelta("a")
        waiting = asyncio.ensure_future(anext(read))
        await asyncio.wait([waiting], timeout=0.05)
        assert not waiting.done()
        gate.set()
        assert await waiting == TextDelta("b")


async def test_the_end_does_not_wait_for_the_frame():
    source = Source(TextDelta("a"), None, None, TextDelta("b"), Finished())
    async with asyncio.timeout(PATIENCE):
        read = [event async for event in joined(source.events(), frame=HOURS)]
    assert read[-1] == Finished()
    assert text_of(read) == "ab"


async def test_thoughts_and_text_are_not_mixed():
    said = [
        ReasoningDelta("a"),
        ReasoningDelta("b"),
        TextDelta("c"),
        Status("looking"),
        TextDelta("d"),
    ]
    read = [event async for event in joined(Source(*said).events())]
    assert read == [
        ReasoningDelta("ab"),
        TextDelta("c"),
        Status("looking"),
        TextDelta("d"),
    ]


async def test_nothing_said_is_nothing_read():
    assert [event async for event in joined(Source().events())] == []


@pytest.mark.parametrize("pauses", [0, 3])
async def test_an_error_comes_after_what_was_said(pauses):
    error = UpstreamBroken("cut_short")
    source = Source(TextDelta("a"), *[None] * pauses, TextDelta("b"), error)
    read, raised = await collect(joined(source.events()))
    assert raised is error
    assert text_of(read) == "ab"
    assert source.closed.is_set()


async def test_closing_the_reader_closes_the_source():
    source = Source(TextDelta("a"), asyncio.Event())
    read = joined(source.events())
    assert await anext(read) == TextDelta("a")
    await read.aclose()
    assert source.closed.is_set()


@pytest.mark.parametrize("frame", [0.0, 0.001, HOURS])
async def test_cancelling_the_reader_closes_the_source(frame):
    source = Source(TextDelta("a"), asyncio.Event())
    seen = asyncio.Event()

    async def listen():
        async for _ in joined(source.events(), frame):
            seen.set()

    async with asyncio.timeout(PATIENCE):
        task = asyncio.create_task(listen())
        await seen.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert source.closed.is_set()


async def test_a_reader_that_fails_closes_the_source():
    source = Source(TextDelta("a"), asyncio.Event())

    async def fail():
        async with aclosing(joined(source.events())) as read:
            async for _ in read:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert source.closed.is_set()


async def test_a_slow_reader_holds_the_source_back():
    source = Source(*[TextDelta("x")] * (5 * BACKLOG_EVENTS))
    async with aclosing(joined(source.events(), frame=0.0)) as read:
        text = (await anext(read)).text
        for _ in range(50):
            await asyncio.sleep(0)
        assert source.given <= 2 * BACKLOG_EVENTS + 2
        async for event in read:
            text += event.text
    assert len(text) == 5 * BACKLOG_EVENTS


async def test_a_source_that_was_never_read_leaves_nothing_behind():
    source = Source(TextDelta("a"))
    read = joined(source.events())
    await read.aclose()
    assert source.given == 0
