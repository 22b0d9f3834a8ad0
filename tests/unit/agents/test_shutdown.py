"""What of the agents' programs a shutdown ends, and a start."""

import pytest

from shared.agents.kinds import acp, cli


@pytest.fixture
def hooks(monkeypatch):
    """The hooks of a server without anything else, by name."""
    found, kept = {}, {}

    def resource(name, make):
        if name not in kept:
            kept[name] = make()
        return kept[name]

    for kind in ("acp", "cli"):
        module = f"shared.agents.kinds.{kind}"
        monkeypatch.setattr(f"{module}.at_shutdown", found.__setitem__)
        monkeypatch.setattr(f"{module}.shared_resource", resource)
    return found


async def test_a_shutdown_closes_the_pools_of_earlier_versions_too(hooks, monkeypatch):
    closed = []

    class Pool(acp.AcpPool):
        async def close(self):
            closed.append(self)
            await super().close()

    class NextPool(Pool):
        """The pool of the function's next version."""

    monkeypatch.setattr("shared.backends.acp_pool.end_orphans", lambda: None)
    monkeypatch.setattr("shared.agents.kinds.acp.AcpPool", Pool)
    first = acp.acp_pool()
    assert acp.acp_pool() is first
    monkeypatch.setattr("shared.agents.kinds.acp.AcpPool", NextPool)
    second = acp.acp_pool()
    assert second is not first
    await hooks["acp agents"]()
    assert set(closed) == {first, second}


def test_what_a_killed_server_left_is_ended_once(hooks, monkeypatch):
    ended = []
    monkeypatch.setattr("shared.agents.kinds.cli.end_orphans", lambda: ended.append(1))
    cli.cli_runs()
    cli.cli_runs()
    cli.shared_resource("orphaned programs", cli.ending_orphans).join()
    assert ended == [1]
