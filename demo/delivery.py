"""From frames to bytes: the pace of an answer, and everything that can go wrong."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Literal

from demo.faults import SPOILED, Faults

BIG_LINE = 10_000_000
NOT_UTF8 = b"\xff\xfe"


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event: its JSON, its name where an API has names, and what it
    carries."""

    data: str
    event: str | None = None
    kind: Literal["think", "text", "tool", "other"] = "other"

    def encode(self) -> bytes:
        name = f"event: {self.event}\n" if self.event else ""
        return _bytes(f"{name}data: {self.data}\n\n")


ErrorFrames = Callable[[int], list[Frame]]


async def deliver(
    frames: Iterable[Frame], faults: Faults, pace: float, error: ErrorFrames
) -> AsyncIterator[bytes]:
    """Turn frames into the bytes to send, one item for one write.

    `pace` is the pause in seconds after each thought, word or argument fragment;
    `error(n)` gives what an error looks like in this API as the n-th event of a stream.
    After `/break cut` the bytes just end in the middle of a frame.
    """
    chunks = _sequence(frames, faults, pace, error)
    if not faults.split:
        async for chunk in chunks:
            yield chunk
        return
    async for chunk in chunks:
        for part in _split(chunk):
            yield part
            await asyncio.sleep(0)


async def deliver_document(
    document: dict[str, Any], faults: Faults, error: ErrorFrames
) -> AsyncIterator[bytes]:
    """Turn an answer that is not streamed into the bytes to send."""
    if faults.silent:
        await _silence()
    await asyncio.sleep(faults.slow)
    data = _bytes(json.dumps(document, ensure_ascii=False))
    match faults.broken:
        case "stream":
            yield error(0)[0].data.encode()
        case "cut":
            yield data[: len(data) // 2]
        case "garbage":
            yield b"}{ this is not JSON"
        case "big":
            yield _bytes(json.dumps(document | {"x_padding": "x" * BIG_LINE}))
        case _:
            yield data


async def _sequence(
    frames: Iterable[Frame], faults: Faults, pace: float, error: ErrorFrames
) -> AsyncIterator[bytes]:
    middle = -1
    if faults.broken or faults.silent == "middle":
        frames = list(frames)
        middle = _middle(frames)
    if faults.silent == "first":
        await _silence()
    if faults.slow:
        await asyncio.sleep(faults.slow)
    pause = faults.slow or (0.0 if faults.words else pace)
    for number, frame in enumerate(frames):
        if number == middle:
            if faults.silent:
                await _silence()
            for raw in _mishap(faults, frame, error(number)):
                yield raw
            if faults.broken in ("stream", "cut"):
                return
        yield frame.encode()
        if faults.keepalive:
            yield b": keep-alive\n\n"
        if pause and frame.kind != "other":
            await asyncio.sleep(pause)


def _mishap(faults: Faults, frame: Frame, error: list[Frame]) -> Iterator[bytes]:
    """What is sent in place of, or before, the frame in the middle of the answer."""
    match faults.broken:
        case "stream":
            yield from (item.encode() for item in error)
        case "cut":
            raw = frame.encode()
            yield raw[: len(raw) // 2]
        case "garbage":
            yield b"data: }{ this is not JSON\n\n"
        case "big":
            # Well-formed and without meaning in both APIs: who copes goes on.
            padding = {"type": "response.x_padding", "choices": []}
            data = json.dumps(padding | {"padding": "x" * BIG_LINE})
            yield f"data: {data}\n\n".encode()


def _middle(frames: list[Frame]) -> int:
    """Number of the frame half way through the text, or through an answer without."""
    texts = [number for number, frame in enumerate(frames) if frame.kind == "text"]
    return texts[len(texts) // 2] if texts else len(frames) // 2


def _split(chunk: bytes) -> Iterator[bytes]:
    sizes = cycle((1, 2, 3, 5))
    start = 0
    while start < len(chunk):
        size = next(sizes)
        yield chunk[start : start + size]
        start += size


async def _silence() -> None:
    """Wait until the client leaves, which cancels the wait."""
    await asyncio.Event().wait()


def _bytes(text: str) -> bytes:
    return text.encode().replace(SPOILED.encode(), NOT_UTF8)
