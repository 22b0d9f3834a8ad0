"""Admins hear of a login that is no longer accepted, until they have heard."""

import pytest

from shared.agents.config import AgentConfig
from shared.agents.login_warnings import warn_once

CODER = AgentConfig(id="coder", name="Coder")


async def test_admins_are_told_once(monkeypatch):
    told = []

    async def notify(title, text):
        told.append((title, text))

    monkeypatch.setattr("shared.agents.login_warnings.notify_admins", notify)
    warned = {}
    await warn_once(warned, CODER, "expired")
    await warn_once(warned, CODER, "expired")
    assert told == [("Coder", "expired")]


async def test_what_could_not_be_told_is_told_the_next_time(monkeypatch):
    async def fail(title, text):
        raise ConnectionError

    monkeypatch.setattr("shared.agents.login_warnings.notify_admins", fail)
    warned = {}
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await warn_once(warned, CODER, "expired")
    assert warned == {}
