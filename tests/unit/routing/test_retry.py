"""What failures mean, and how long is waited after them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import (
    UpstreamBroken,
    UpstreamRefused,
    UpstreamSilent,
    UpstreamUnreachable,
)
from shared.routing.retry import backoff_seconds, meaning_of
from shared.routing.settings import RetrySettings


@pytest.mark.parametrize(
    ("error", "again", "blame"),
    [
        (UpstreamUnreachable("connection_refused"), True, "upstream"),
        (UpstreamUnreachable("bad_address"), False, "upstream"),
        (UpstreamSilent("connect_timeout"), True, "upstream"),
        (UpstreamSilent("silent_first"), False, "upstream"),
        (UpstreamBroken("cut_short"), True, "upstream"),
        (UpstreamBroken("said_error", detail="Overloaded"), True, "pause"),
        (UpstreamBroken("said_error", detail="The prompt is bad"), False, "upstream"),
        (UpstreamRefused("status_other", 400), False, "request"),
        (UpstreamRefused("status_401", 401), False, "upstream"),
        (UpstreamRefused("status_403", 403), False, "upstream"),
        (UpstreamRefused("status_404", 404), False, "upstream"),
        (UpstreamRefused("status_other", 408), True, "upstream"),
        (UpstreamRefused("status_429", 429), True, "pause"),
        (UpstreamRefused("status_5xx", 500), True, "upstream"),
        (UpstreamRefused("status_5xx", 503), True, "upstream"),
        (UpstreamRefused("status_5xx", 503, retry_after=9), True, "pause"),
    ],
    ids=lambda value: str(value),
)
def test_a_failure_has_a_meaning(error, again, blame):
    meaning = meaning_of(error)
    assert (meaning.again, meaning.blame) == (again, blame)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_the_time_a_server_asks_for_is_read(status):
    refused = UpstreamRefused("any", status, retry_after=7)
    assert meaning_of(refused).retry_after == 7


@given(
    attempt=st.integers(1, 10_000),
    base=st.floats(0.01, 10),
    cap=st.floats(0.01, 100),
    seed=st.integers(),
)
def test_a_pause_lies_between_nothing_and_its_bound(attempt, base, cap, seed):
    rules = RetrySettings(base=base, cap=cap)
    seconds = backoff_seconds(attempt, rules, random.Random(seed))
    assert 0 <= seconds <= min(cap, base * 2 ** min(attempt - 1, 50))


def test_pauses_are_spread_over_all_of_it():
    rules, chance = RetrySettings(base=1, cap=64), random.Random(1)
    pauses = [backoff_seconds(4, rules, chance) for _ in range(1000)]
    assert min(pauses) < 0.4
    assert max(pauses) > 7.6
