"""Lists that a server gives in pages."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from shared.backends.payloads import must_be_object
from shared.errors import UpstreamBroken

ENTRIES_A_PAGE = 100
MAX_ENTRIES = 1_000

Entries = Sequence[Mapping[str, Any]]

pages_log = logging.getLogger("aqueduct.backends.discovery")


async def all_entries(
    next_page: Callable[[Entries], Awaitable[Any]], key: str, agent: str
) -> list[Mapping[str, Any]]:
    """The entries of all pages, 1,000 at most: whoever has more reads so in the log.

    `next_page` gets the entries so far; `key` names what tells them apart. A page that
    brings nothing new is the end, also of a server that gives the same page again.
    Raises UpstreamBroken for a page that is no list of objects with that key.
    """
    entries: dict[str, Mapping[str, Any]] = {}
    while True:
        page = await next_page(list(entries.values()))
        if not isinstance(page, list):
            raise UpstreamBroken("unreadable")
        known = len(entries)
        for entry in map(must_be_object, page):
            if key not in entry:
                raise UpstreamBroken("unreadable")
            entries.setdefault(str(entry[key]), entry)
        if len(entries) > MAX_ENTRIES:
            pages_log.warning("%s: only %d entries are listed", agent, MAX_ENTRIES)
        if len(entries) == known or len(entries) > MAX_ENTRIES:
            return list(entries.values())[:MAX_ENTRIES]
