"""Lists in pages: read to the end, and no further than makes sense."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from shared.backends.listing_pages import MAX_ENTRIES, Entries, all_entries
from shared.errors import UpstreamBroken


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"id": number} for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 25, MAX_ENTRIES])
async def test_every_entry_comes_once(count: int, caplog: pytest.LogCaptureFixture):
    async def next_page(known: Entries) -> Any:
        return numbered(count)[len(known) : len(known) + 10]

    assert await all_entries(next_page, "id", "Scout") == numbered(count)
    assert caplog.records == []


async def test_a_server_without_pages_gives_all_at_once():
    async def next_page(known: Entries) -> Any:
        return numbered(30)

    assert await all_entries(next_page, "id", "Scout") == numbered(30)


async def test_a_list_without_an_end_is_cut_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
):
    async def next_page(known: Entries) -> Any:
        return [{"id": len(known) + number} for number in range(100)]

    with caplog.at_level(logging.WARNING):
        found = await all_entries(next_page, "id", "Scout")
    assert found == numbered(MAX_ENTRIES)
    assert "Scout" in caplog.text


@pytest.mark.parametrize("page", [None, {"data": []}, ["text"], [{"name": "x"}]])
async def test_what_is_no_list_of_entries(page: Any):
    async def next_page(known: Entries) -> Any:
        return page

    with pytest.raises(UpstreamBroken):
        await all_entries(next_page, "id", "Scout")
