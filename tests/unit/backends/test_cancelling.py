"""An agent's own cancel runs to its end, however often we are cancelled."""

import asyncio

import anyio
import pytest

from shared.backends import cancelling
from shared.backends.cancelling import run_cancel
from shared.errors import UpstreamUnreachable


async def test_what_fails_in_it_is_logged_and_not_raised(caplog):
    async def fail():
        raise UpstreamUnreachable("unreachable")

    await run_cancel(fail())
    assert "could not be told to stop" in caplog.text


async def test_a_cancel_that_hangs_is_given_up(monkeypatch, caplog):
    monkeypatch.setattr(cancelling, "CANCEL_SECONDS", 0.01)
    await run_cancel(asyncio.Event().wait())
    assert "did not stop" in caplog.text


async def test_it_goes_on_where_every_await_is_cancelled_again():
    told = asyncio.Event()

    async def tell():
        await asyncio.sleep(0)
        told.set()

    with anyio.CancelScope() as scope:
        try:
            scope.cancel()
            await anyio.sleep_forever()
        finally:
            with pytest.raises(asyncio.CancelledError):
                await run_cancel(tell())
    await asyncio.wait_for(told.wait(), 5)
