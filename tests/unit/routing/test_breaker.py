"""When an upstream is left alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.routing.breaker import BreakerRecord, after_failure, after_success
from shared.routing.settings import BreakerSettings

RULES = BreakerSettings(
    failures=3, error_rate=0.5, min_requests=6, window=10, open_for=8
)


def fail(record, now=0.0, code="status_5xx", probing=False):
    return after_failure(record, now, code, probing, RULES)


def test_failures_in_a_row_shut_it():
    record = BreakerRecord()
    for _ in range(2):
        record, shut = fail(record)
        assert shut is None
    _, shut = fail(record)
    assert shut is not None
    assert (shut.seconds, shut.code, shut.paused) == (8, "status_5xx", False)


def test_a_success_begins_the_row_anew():
    record, _ = fail(BreakerRecord())
    record, _ = fail(record)
    record, _ = fail(after_success(record, 0.0))
    _, shut = fail(record)
    assert shut is None


def test_a_share_of_failures_shuts_it():
    record = BreakerRecord()
    for _ in range(3):
        record = after_success(record, 0.0)
        record, shut = fail(record)
    assert shut is not None


def test_old_failures_do_not_count():
    record = BreakerRecord()
    for _ in range(2):
        record, _ = fail(after_success(record, 0.0))
    for now in (20.0, 20.0):
        record = after_success(record, now)
    record, shut = fail(record, 20.0)
    assert shut is None


@pytest.mark.parametrize("code", ["status_401", "status_403", "status_404"])
def test_what_will_not_pass_shuts_it_at_once(code):
    _, shut = fail(BreakerRecord(), code=code)
    assert shut is not None
    assert shut.code == code


def test_failures_at_once_that_will_not_pass_shut_it_once():
    record, _ = fail(BreakerRecord(), code="status_401")
    record, again = fail(record, code="status_401")
    assert again is None
    _, trial = fail(record, code="status_401", probing=True)
    assert trial is not None
    assert trial.seconds == 16


def test_each_trial_that_fails_doubles_the_time_up_to_five_minutes():
    record, seconds = BreakerRecord(), []
    for _ in range(8):
        record, shut = fail(record, probing=True)
        assert shut is not None
        seconds.append(shut.seconds)
    assert seconds == [8, 16, 32, 64, 128, 256, 300, 300]
    assert after_success(record, 0.0) == BreakerRecord()


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.booleans()), max_size=20),
    st.integers(0, 100),
    st.integers(0, 10),
)
def test_a_record_survives_json(outcomes, in_a_row, openings):
    record = BreakerRecord(tuple(outcomes), in_a_row, openings)
    assert BreakerRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
