"""What recovering tool calls costs per chunk of a stream; prints JSON.

    python -m benchmarks.toolcalls_cost

Microseconds per 4-character chunk, processor time, the best of several runs, over texts of 10 kB and
100 kB: prose, prose with code, and one long argument in each body machine: the scanner
alone, the filter's whole `stream`, and a `stream` that does nothing. All three include
making the events' dictionaries where they take events.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import typer

from filters.tool_call_recovery import Filter
from shared.toolcalls.scanner import ToolCallScanner

CHUNK = 4
RUNS = 5
SIZES = (10_000, 100_000)
NAMES = [
    "get_weather",
    "search",
    "bash",
    "read_file",
    "write_file",
    "python",
    "list_files",
    "send_email",
    "create_event",
    "query_database",
    "translate",
    "summarize",
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
            },
        },
    }
    for name in NAMES
]
PROSE = (
    "The river runs slowly past the old mill, and in summer (about June) people sit "
    "on its banks. They read, they talk; some write letters: to friends, to banks. "
    "Nobody is in a hurry - why should they be?\n\n"
)
CODE = (
    "Call it like this:\n\n```python\nfor item in found[:3]:\n"
    "    print({'name': item.name, 'size': len(item)})\n```\n\n"
    "<b>Mind</b> the `size` and that a[i] < b[j] holds.\n\n"
)
ARGUMENT = "She said it was fine, then left; 3 < 4 and so on. "
BODIES: dict[str, tuple[str, str]] = {
    "prose": ("", ""),
    "code": ("", ""),
    "json": (
        '<tool_call>\n{"name": "bash", "arguments": {"text": "',
        '"}}\n</tool_call>',
    ),
    "tags": (
        "<tool_call>\n<function=bash>\n<parameter=text>\n",
        "\n</parameter>\n</function>",
    ),
    "pairs": (
        "<tool_call>bash\n<arg_key>text</arg_key>\n<arg_value>",
        "</arg_value></tool_call>",
    ),
    "python": ('<|tool_call_start|>[bash(text="', '")]<|tool_call_end|>'),
    "relaxed": ('<|tool_call>call:bash{text:<|"|>', '<|"|>}<tool_call|>'),
    "named": ('[TOOL_CALLS]bash[ARGS]{"text": "', '"}'),
}


def sample(kind: str, size: int) -> list[str]:
    opening, closing = BODIES[kind]
    unit = {"prose": PROSE, "code": CODE}.get(kind, ARGUMENT)
    filling = (unit * (size // len(unit) + 1))[:size]
    text = opening + filling + closing
    return [text[i : i + CHUNK] for i in range(0, len(text), CHUNK)]


def best(run: Callable[[], None], chunks: int) -> float:
    times = []
    for _ in range(RUNS):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return round(min(times) / chunks * 1e6, 2)


def scanning(chunks: list[str]) -> Callable[[], None]:
    def run() -> None:
        scanner = ToolCallScanner(TOOLS)
        for chunk in chunks:
            scanner.feed(chunk)
        scanner.finish()

    return run


class EmptyFilter:
    """One event in, the same event out."""

    async def stream(self, event: dict[str, Any], **_: Any) -> dict[str, Any]:
        return event


def streaming(chunks: list[str], make_filter: Callable[[], Any]) -> Callable[[], None]:
    """All chunks through a filter's `stream`, called as Open WebUI calls it."""
    body = {"tools": TOOLS}
    metadata = {"message_id": "m", "user_id": "u", "chat_id": "c"}

    async def stream_all() -> None:
        stream = make_filter().stream
        for chunk in [*chunks, None]:
            delta = {} if chunk is None else {"content": chunk}
            reason = "stop" if chunk is None else None
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            await stream(
                event={"id": "c", "choices": [choice]},
                __body__=body,
                __metadata__=metadata,
                __model__={},
            )

    return lambda: asyncio.run(stream_all())


def main() -> None:
    """Measure every kind of text at every size."""
    report: dict[str, Any] = {}
    for kind in BODIES:
        for size in SIZES:
            chunks = sample(kind, size)
            report[f"{kind} {size // 1000} kB"] = {
                "scanner_us": best(scanning(chunks), len(chunks)),
                "filter_us": best(streaming(chunks, Filter), len(chunks)),
                "empty_filter_us": best(streaming(chunks, EmptyFilter), len(chunks)),
            }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    typer.run(main)
