"""How well leaked tool calls are recovered; prints JSON.

    python -m benchmarks.toolcalls_quality --leaks FILE --innocent FILE [--show]

A line of the leaks file is a JSON object with `text`, `tools` (OpenAI specs), `expected`
([{name, arguments}]), `kind` (call, nocall_marker, nocall_plain), `format`, `oracle`; a
line of the innocent file has `text` and `tools`. `--show` adds every disagreement.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.toolcalls.families import CLOSE_MARKS, OPEN_MARKS, SEPARATOR_MARKS
from shared.toolcalls.pieces import Piece, RecoveredCall, VisibleText, piece_source
from shared.toolcalls.scanner import ToolCallScanner

Case = dict[str, Any]
_TOKEN = re.compile(r"\s?\w{1,6}|\s?[^\w\s]{1,3}|\s+")
_MARKUP = [
    mark
    for marks in (OPEN_MARKS, CLOSE_MARKS, SEPARATOR_MARKS)
    for mark in marks.literals
    if len(mark) > 5 and not mark[0].isalpha()
] + ["<function=", "<parameter=", "<arg_key>", "<arg_value>", "<invoke name="]


def by_size(size: int) -> Callable[[str], list[str]]:
    return lambda text: [text[i : i + size] for i in range(0, len(text), size)]


def at_random(text: str) -> list[str]:
    dice = random.Random(len(text))
    chunks, at = [], 0
    while at < len(text):
        size = dice.choice((1, 2, 3, 5, 8, 40))
        chunks.append(text[at : at + size])
        at += size
    return chunks


CHUNKINGS: dict[str, Callable[[str], list[str]]] = {
    "whole": lambda text: [text],
    "1": by_size(1),
    "3": by_size(3),
    "tokens": _TOKEN.findall,
    "random": at_random,
}


def scan(case: Case, chunks: Iterable[str]) -> list[Piece]:
    scanner = ToolCallScanner(case["tools"] or [])
    pieces = [piece for chunk in chunks for piece in scanner.feed(chunk)]
    return pieces + scanner.finish()


def calls_of(pieces: list[Piece]) -> list[tuple[str, Any]]:
    return [
        (piece.name, json.loads(piece.arguments))
        for piece in pieces
        if isinstance(piece, RecoveredCall)
    ]


def visible(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, VisibleText))


def judge(case: Case, chunks: list[str]) -> dict[str, Any]:
    pieces = scan(case, chunks)
    wanted = [(one["name"], one["arguments"]) for one in case.get("expected") or []]
    found = calls_of(pieces)
    shown = visible(pieces)
    return {
        "equal": found == wanted,
        "found": found,
        "markup": [mark for mark in _MARKUP if mark in shown],
        "lost": "".join(map(piece_source, pieces)) != case["text"],
    }


def share(results: list[dict[str, Any]]) -> dict[str, Any]:
    equal = sum(one["equal"] for one in results)
    return {
        "cases": len(results),
        "equal": equal,
        "percent": round(100 * equal / len(results), 1),
        "markup_visible": sum(bool(one["markup"]) for one in results),
    }


def measure_leaks(cases: list[Case], chunking: str) -> dict[str, Any]:
    cut = CHUNKINGS[chunking]
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    plain: list[dict[str, Any]] = []
    shown: list[Any] = []
    for case in cases:
        result = judge(case, cut(case["text"]))
        if case["kind"] == "call":
            oracle = "recorded" if "recorded" in case["oracle"] else "explicit"
            groups[f"oracle {oracle}"].append(result)
            groups[f"format {case['format']}"].append(result)
        elif case["kind"] == "nocall_plain":
            plain.append(result)
        if not result["equal"] or (case["kind"] == "call" and result["markup"]):
            keys = ("id", "format", "oracle", "kind", "text", "expected")
            shown.append({key: case.get(key) for key in keys} | result)
    return {
        "calls": {name: share(results) for name, results in sorted(groups.items())},
        "plain_texts": len(plain),
        "invented_in_plain": sum(bool(one["found"]) for one in plain),
        "lost_characters": sum(one["lost"] for one in plain)
        + sum(one["lost"] for results in groups.values() for one in results),
        "disagreements": shown,
    }


def measure_innocent(cases: list[Case], chunking: str) -> dict[str, Any]:
    invented, altered = [], []
    for case in cases:
        pieces = scan(case, CHUNKINGS[chunking](case["text"]))
        if calls_of(pieces):
            invented.append(case["text"][:300])
        if visible(pieces) != case["text"]:
            altered.append(case["text"][:300])
    return {"texts": len(cases), "invented": invented, "altered": altered}


def lines(path: Path) -> list[Case]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def main(
    leaks: Annotated[Path, typer.Option(help="JSON lines with leaked calls")],
    innocent: Annotated[Path, typer.Option(help="JSON lines with innocent texts")],
    show: Annotated[bool, typer.Option(help="list the disagreements")] = False,
) -> None:
    """Measure every chunking on both files."""
    report: dict[str, Any] = {}
    leaked, harmless = lines(leaks), lines(innocent)
    for chunking in CHUNKINGS:
        found = measure_leaks(leaked, chunking)
        if not show:
            found["disagreements"] = len(found["disagreements"])
        report[chunking] = {
            "leaks": found,
            "innocent": measure_innocent(harmless, chunking),
        }
    print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    typer.run(main)
