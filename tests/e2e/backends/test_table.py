"""The table in docs/agents.md says what the tests of this run saw."""

from __future__ import annotations

import pytest

from devkit.paths import ROOT
from tests.e2e.backends.seen import GAPS, SEEN, with_table
from tests.e2e.conftest import RENEW

PAGE = ROOT / "docs" / "agents.md"


def test_the_table_of_agents_is_current(request):
    if gaps := request.config.stash[GAPS]:
        pytest.skip(f"needs all tests of agents to pass first: {gaps[0]}")
    page = PAGE.read_text("utf-8")
    current = with_table(page, SEEN)
    if RENEW:
        PAGE.write_text(current, "utf-8")
    else:
        assert page == current, "renew it: AQUEDUCT_SCREENSHOTS=1"
