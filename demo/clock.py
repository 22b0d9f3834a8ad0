"""The clock: the time in a place."""

import re
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

ASKS = re.compile(
    r"\b(what time|what(?:'s| is) the (?:time|date)|time is it|the time in|time in"
    r"|current time|current date|today's date|what day|which day|local time"
    r"|wie spät|wieviel uhr|uhrzeit|qué hora|que hora|quelle heure)\b|几点|时间",
    re.IGNORECASE,
)
# Places people ask for whose names are not in the time zone database.
ALSO = {
    "barcelona": "Europe/Madrid",
    "bangalore": "Asia/Kolkata",
    "beijing": "Asia/Shanghai",
    "boston": "America/New_York",
    "china": "Asia/Shanghai",
    "delhi": "Asia/Kolkata",
    "france": "Europe/Paris",
    "frankfurt": "Europe/Berlin",
    "geneva": "Europe/Zurich",
    "germany": "Europe/Berlin",
    "hamburg": "Europe/Berlin",
    "india": "Asia/Kolkata",
    "japan": "Asia/Tokyo",
    "milan": "Europe/Rome",
    "montreal": "America/Toronto",
    "mumbai": "Asia/Kolkata",
    "munich": "Europe/Berlin",
    "san francisco": "America/Los_Angeles",
    "seattle": "America/Los_Angeles",
    "spain": "Europe/Madrid",
    "washington": "America/New_York",
    "北京": "Asia/Shanghai",
    "东京": "Asia/Tokyo",
}


def asks_for_time(text: str) -> bool:
    """Whether a sentence asks for the time or the date."""
    return bool(ASKS.search(text))


def find_zone(text: str) -> str:
    """The time zone of a place named in `text`, as an IANA name; "UTC" without one."""
    named = re.search(r"\b[A-Z][a-z]+/[A-Z]\w+(?:/[A-Z]\w+)?\b", text)
    if named and named.group() in available_timezones():
        return named.group()
    lowered = text.lower()
    places = [place for place in _places() if _mentions(lowered, place)]
    return _places()[max(places, key=len)] if places else "UTC"


def read_clock(zone: str, now: datetime) -> str:
    """The time of `now` (aware) in `zone`, like "Tuesday, 2 June 2026, 18:30 (UTC)"."""
    local = now.astimezone(UTC if zone == "UTC" else ZoneInfo(zone))
    return f"{local:%A}, {local.day} {local:%B %Y}, {local:%H:%M} ({zone})"


def _mentions(text: str, place: str) -> bool:
    if not place.isascii():
        return place in text
    return bool(re.search(rf"\b{re.escape(place)}\b", text))


@cache
def _places() -> dict[str, str]:
    """Lower-case place names and their zones."""
    cities = {
        zone.rpartition("/")[2].replace("_", " ").lower(): zone
        for zone in sorted(available_timezones())
        if "/" in zone and not zone.startswith(("Etc/", "posix/", "right/"))
    }
    available = available_timezones()
    return cities | {place: zone for place, zone in ALSO.items() if zone in available}
