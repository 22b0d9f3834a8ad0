"""Runs the built recovery filter through Open WebUI's own filter code, then is gone.

`python -m tests.contract.recovery_in_host` prints, as JSON {syntax: [event, ...]}, what
Open WebUI would go on with after each chunk of a leaked call, every syntax of the demo's
model in pieces of four characters.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from pathlib import Path
from typing import Any

from demo.acts import Call
from demo.leaks import SYNTAXES

ROOT = Path(__file__).parents[2]
BEFORE = "I will ask for that.\n\n"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


def chunks(syntax: str) -> list[dict[str, Any]]:
    text = BEFORE + SYNTAXES[syntax]([Call("get_weather", {"city": "São Paulo"})])
    parts = [text[at : at + 4] for at in range(0, len(text), 4)]
    choices = [{"index": 0, "delta": {"content": part}} for part in parts]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    return [{"id": "c", "choices": [choice]} for choice in choices]


async def main() -> dict[str, list[dict[str, Any]]]:
    from open_webui.utils import filter as host_filter
    from open_webui.utils import plugin

    text = (ROOT / "dist/tool_call_recovery.py").read_text(encoding="utf-8")
    loaded, kind, *_ = await plugin.load_function_module_by_id(
        "tool_call_recovery", content=text
    )
    assert kind == "filter"
    told: dict[str, list[dict[str, Any]]] = {}
    for syntax in SYNTAXES:
        told[syntax] = []
        extra = {
            "__body__": {"tools": TOOLS},
            "__metadata__": {"message_id": syntax, "user_id": "u"},
            "__model__": {},
            "__request__": None,
            "__event_emitter__": None,
        }
        for event in chunks(syntax):
            params = host_filter.get_filter_params(
                inspect.signature(loaded.stream), "id", "stream", event, extra
            )
            passed = await host_filter.run_filter_handler(loaded.stream, params)
            told[syntax] += [passed] if passed else []
    return told


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))  # noqa: T201 - this is its answer
