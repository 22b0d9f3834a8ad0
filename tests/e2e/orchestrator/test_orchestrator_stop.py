"""Stop in the chat above stops everything below it."""

from __future__ import annotations

from tests.e2e.orchestrator.calls import chat, collect_all
from tests.e2e.orchestrator.upstream import Script

HELD = chat("wait", model="slow")
HELD_BEHIND = chat("wait", model="slow", background=True)


async def stopped_below(tab, turn, upstream, count: int) -> None:
    """Press Stop once so many models are at work below; see that none is left."""

    async def at_work() -> bool:
        return len(upstream.heard("slow")) == count

    await tab.until(at_work)
    await turn.stop()

    async def at_rest() -> bool:
        return not await tab.tasks(turn.chat_id) and not await running_below(tab, turn)

    await tab.until(at_rest)
    messages = [
        message
        for child in await tab.child_chats(turn.chat_id)
        for message in child["chat"]["history"]["messages"].values()
        if message["role"] == "assistant"
    ]
    assert messages
    assert all("says" not in message["content"] for message in messages)


async def running_below(tab, turn) -> list[str]:
    """What still runs in the chats below, at any depth."""
    found = []
    for child in await tab.child_chats(turn.chat_id):
        found += await tab.tasks(child["id"])
        for grandchild in await tab.child_chats(child["id"]):
            found += await tab.tasks(grandchild["id"])
    return found


async def test_a_model_that_is_waited_for(tab, upstream):
    upstream.scripts["go"] = Script([[HELD]])
    turn = await tab.say("go")
    await stopped_below(tab, turn, upstream, 1)
    statuses = [each["description"] for each in (await turn.stored())["statusHistory"]]
    assert statuses[-1] == "Stopped, with everything that was asked"


async def test_models_that_are_collected(tab, upstream):
    upstream.scripts["go"] = Script([[HELD_BEHIND] * 3, [collect_all()]])
    await stopped_below(tab, await tab.say("go"), upstream, 3)


async def test_what_the_user_has_asked_goes_on_when_collecting_is_stopped(
    tab, upstream
):
    own = await tab.send("slow", "by hand")
    collect = ("collect", {"chat_ids": [own.chat_id]})
    upstream.scripts["go"] = Script([[collect]])
    turn = await tab.say("go")

    async def collecting() -> bool:
        stored = await turn.stored()
        return bool(stored.get("statusHistory"))

    await tab.until(collecting)
    await turn.stop()

    async def at_rest() -> bool:
        return not await tab.tasks(turn.chat_id)

    await tab.until(at_rest)
    upstream.let_go.set()
    assert "Slow says: by hand" in (await own.answer())["content"]


async def test_models_in_the_background_while_the_orchestrator_writes(tab, upstream):
    def writing(results: list[dict[str, object]]) -> str:
        upstream.let_go.wait(60)
        return "Nobody reads this."

    upstream.scripts["go"] = Script([[HELD_BEHIND] * 2], writing)
    await stopped_below(tab, await tab.say("go"), upstream, 2)


async def test_models_below_models(tab, upstream):
    upstream.scripts["below"] = Script([[HELD_BEHIND, HELD]])
    upstream.scripts["go"] = Script([[chat("below", model="deputy")]])
    await stopped_below(tab, await tab.say("go"), upstream, 2)


async def test_models_that_a_model_left_in_the_background(tab, upstream):
    def writing(results: list[dict[str, object]]) -> str:
        upstream.let_go.wait(60)
        return "Nobody reads this."

    # The deputy is done; who asked it is not, and the one that it asked is not.
    upstream.scripts["below"] = Script([[HELD_BEHIND]], lambda results: "Done.")
    upstream.scripts["go"] = Script([[chat("below", model="deputy")]], writing)
    turn = await tab.say("go")

    async def deputy_done() -> bool:
        children = await tab.child_chats(turn.chat_id)
        if not children or len(upstream.heard("slow")) != 1:
            return False
        return not await tab.tasks(children[0]["id"])

    await tab.until(deputy_done)
    [deputy] = await tab.child_chats(turn.chat_id)
    [left] = await tab.child_chats(deputy["id"])
    assert await tab.tasks(left["id"]) != []
    await turn.stop()

    async def at_rest() -> bool:
        return not await tab.tasks(turn.chat_id) and not await tab.tasks(left["id"])

    await tab.until(at_rest)
    messages = (await tab.messages(left["id"])).values()
    assert all("says" not in message["content"] for message in messages)


async def test_a_talk(tab, upstream):
    call = ("let_models_talk", {"models": ["luna", "slow"], "topic": "Time."})
    upstream.scripts["go"] = Script([[call]])
    turn = await tab.say("go")

    async def at_work() -> bool:
        return len(upstream.heard("slow")) == 1

    await tab.until(at_work)
    await turn.stop()
    [talk] = await tab.child_chats(turn.chat_id)

    async def at_rest() -> bool:
        return not await tab.tasks(turn.chat_id) and not await tab.tasks(talk["id"])

    await tab.until(at_rest)
    assert len(await tab.messages(talk["id"])) == 4


async def test_those_in_the_background_go_on_when_the_orchestrator_is_done(
    tab, upstream
):
    upstream.scripts["go"] = Script([[HELD_BEHIND]])
    turn = await tab.say("go")
    await turn.answer()
    [child] = await tab.child_chats(turn.chat_id)
    assert await tab.tasks(child["id"]) != []
    upstream.let_go.set()
    messages = await tab.settled(child["id"], 2)
    assert any("Slow says: wait" in each["content"] for each in messages.values())
