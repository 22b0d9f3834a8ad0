"""The table of what tests saw with real agents."""

from __future__ import annotations

import pytest

from tests.e2e.backends.seen import END, START, seen, table, with_table

NOTED = {("a2a", "1.0"): {"text", "cancel"}, ("acp", "Gemini CLI"): {"thoughts"}}


def test_rows_are_in_the_order_of_backends():
    lines = table(NOTED).splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| `acp`", "Gemini CLI"],
        ["| `a2a`", "1.0"],
    ]


def test_a_mark_stands_below_its_capability():
    header, _, gemini, _ = table(NOTED).splitlines()
    marked = [
        name
        for name, mark in zip(header.split("|"), gemini.split("|"), strict=True)
        if "✓" in mark
    ]
    assert [name.strip() for name in marked] == ["thoughts"]


def test_the_table_replaces_the_earlier_one():
    page = f"before\n{START}\nold\n{END}\nafter\n"
    once = with_table(page, NOTED)
    assert "old" not in once
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert with_table(once, NOTED) == once


def test_what_this_run_could_not_see_stays():
    letta = {("letta", "Letta"): {"text", "forks"}}
    page = with_table(f"{START}\n{END}", {**NOTED, **letta})
    assert with_table(page, NOTED) == page
    n8n = {("webhook", "n8n"): {"text"}}
    page = with_table(f"{START}\n{END}", {**NOTED, **letta, **n8n})
    other = {**NOTED, ("webhook", "a service"): {"text"}}
    assert with_table(page, other) == with_table(page, {**other, **letta, **n8n})
    page = with_table(f"{START}\n{END}", {**NOTED, **letta})
    fewer = {("letta", "Letta"): {"text"}}
    assert with_table(page, fewer) == with_table(f"{START}\n{END}", fewer)


def test_a_page_without_a_place_is_an_error():
    with pytest.raises(ValueError, match="no place"):
        with_table("nothing here", NOTED)


@pytest.mark.parametrize("what", [("smtp", "text"), ("acp", "telepathy")])
def test_what_the_table_has_not_is_an_error(what):
    backend, capability = what
    with pytest.raises(ValueError, match="the table has no"):
        seen(backend, "Gemini CLI", capability)
