"""All buttons among Open WebUI's own changes to a chat, on its real database.

Run by test_continue_with_tree.py in a process of its own, as importing Open WebUI
opens its database: `python -m tests.contract.continue_with_tree`.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from shared.errors import AqueductError
from shared.host.chat_fields import show_instead
from shared.host.errands import Errand, asked_for
from shared.orchestration.desk import ButtonSettings, Desk, Press
from shared.orchestration.service import BUTTONS
from shared.orchestration.talk import Thread, show_what_came

MODELS = ("one", "two", "three")
# "refused": a model goes away; "stopped": somebody stops it while it starts.
OURS = (
    *BUTTONS,
    *(f"refused {button}" for button in ("continue", "opinion", "compare")),
    *(f"stopped {button}" for button in ("talk", "opinion", "compare")),
)
THEIRS = ("edit", "regenerate", "delete")
# What a press may meet here; everything else is a mistake.
REFUSALS = ("message_gone", "not_started", "answer_running", "no_question")

STEPS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(OURS + THEIRS), st.integers(0, 2**16)),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=8,
)


async def nothing() -> None:
    """Leave the chat alone."""


class Scene:
    """One chat, its user, and a completion handler that only writes the turn.

    `chat_ids` are the chat and those that were made from it, `forms` what models were
    asked with.
    """

    def __init__(self, person: Any, chat_id: str) -> None:
        self.person = person
        self.chat_id = chat_id
        self.chat_ids = [chat_id]
        self.forms: list[dict[str, Any]] = []
        self.pressed = False
        # What happens when a model is set to work: it is refused, or all is cancelled.
        self.refused: Sequence[str] = ()
        self.cancelled: asyncio.Task[None] | None = None
        # What somebody else does while the form is open, and while a model starts.
        self.at_the_form: Callable[[], Awaitable[Any]] = nothing
        self.at_the_start: Callable[[], Awaitable[Any]] = nothing
        state = SimpleNamespace(
            MODELS={name: {"id": name, "name": name} for name in MODELS},
            redis=None,
            CHAT_COMPLETION_HANDLER=self.complete,
        )
        scope = {"type": "http", "headers": [], "app": SimpleNamespace(state=state)}
        self.request = Request(scope)

    async def complete(
        self, request: Request, form: dict[str, Any], user: Any
    ) -> dict[str, Any]:
        """What Open WebUI's handler does to the database, without the models."""
        from fastapi import HTTPException
        from open_webui.models.chats import Chats

        self.forms.append(form)
        if "user_message" not in form:
            return {"choices": [{"message": {"content": "in short"}}]}
        await self.at_the_start()
        if self.cancelled:
            self.cancelled.cancel()
        if form["model"] in self.refused:
            raise HTTPException(400, "the model went away")
        chat_id, entries = form["chat_id"], form["message_ids"]
        await Chats.insert_chat_turn(chat_id, user, form["user_message"], entries)
        models = form["user_message"].get("models") or [form["model"]]
        await Chats.update_chat_by_id(chat_id, {"models": models}, touch=False)
        for entry in entries:
            await Chats.upsert_message_to_chat_by_id_and_message_id(
                chat_id, entry["message_id"], {"content": "said", "done": True}
            )
        return {"task_ids": []}

    async def step(self, kind: str, seed: int) -> None:
        """One change somewhere in the tree; a refusal is as good as a success."""
        messages = (await stored_chat(self.chat_id))["history"]["messages"]
        pick = random.Random(seed)
        answers = sorted(key for key, m in messages.items() if m["role"] == "assistant")
        if not answers:
            return
        answer = messages[pick.choice(answers)]
        if kind in THEIRS:
            await getattr(self, kind)(messages, answer, pick)
            return
        if self.pressed:
            return
        # The claim of `shared/host/claims.py`: one press in a chat at a time.
        self.pressed = True
        try:
            how, _, button = kind.rpartition(" ")
            # Compare's first model is at work when its second one is refused.
            late = ("three",) if button == "compare" else MODELS
            self.refused = late if how == "refused" else ()
            pressing = asyncio.create_task(self.press(kind, answer["id"], pick))
            self.cancelled = None
            if kind == "stopped talk":
                await self.stop(pressing, pick.randrange(400))
            elif how == "stopped":
                self.cancelled = pressing
            await pressing
        except asyncio.CancelledError:
            assert kind.startswith("stopped")
        except AqueductError as error:
            if error.code not in REFUSALS:
                raise
        finally:
            self.pressed = False

    async def press(self, kind: str, message_id: str, pick: random.Random) -> None:
        """Press a button and fill in its form."""
        how, _, button = kind.rpartition(" ")

        async def event_call(event: dict[str, Any]) -> Any:
            if event["type"] == "execute":
                self.chat_ids += re.findall("/c/([0-9a-f-]+)", event["data"]["code"])
                return True
            await self.at_the_form()
            answers = {
                "model": pick.choice(MODELS),
                "turns": pick.choice((2, 3)),
                "seed": pick.choice(("as_is", "summary")),
                "text": "refused" if how == "refused" else "go on",
                "model_1": "two",
                "model_2": "three",
            }
            return {"action": "accept", "content": answers}

        async def emit(event: dict[str, Any]) -> None:
            return None

        press = Press(
            button=button,
            request=self.request,
            user_id=self.person.id,
            chat_id=self.chat_id,
            message_id=message_id,
            session_id="nobody",
            model_id="one",
            messages=[],
            emit=emit,
            event_call=event_call,
        )
        await BUTTONS[button](Desk(press, ButtonSettings(), self.person, "en"))

    async def edit(self, messages, answer, pick) -> None:
        question = messages[answer["parentId"]]
        await self.insert(
            {"id": str(uuid4()), "parentId": question["parentId"], "content": "edited"}
        )

    async def regenerate(self, messages, answer, pick) -> None:
        await self.insert(messages[answer["parentId"]])

    async def insert(self, message: dict[str, Any]) -> None:
        from fastapi import HTTPException
        from open_webui.models.chats import Chats

        entry = {"model_id": "one", "message_id": str(uuid4()), "modelIdx": 0}
        message = {"role": "user", "models": ["one"], **message}
        try:
            await Chats.insert_chat_turn(self.chat_id, self.person, message, [entry])
        except HTTPException:
            return

    async def delete(self, messages, answer, pick) -> None:
        from open_webui.models.chats import Chats

        if len(messages) > 2:
            await Chats.delete_message_from_chat_by_id_and_message_id(
                self.chat_id, pick.choice([answer["id"], answer["parentId"]])
            )

    async def stop(self, pressing: asyncio.Task[None], moment: int) -> None:
        """Press Stop, so many turns of the event loop after the models began."""
        from open_webui.tasks import list_task_ids_by_item_id, stop_item_tasks

        while not pressing.done() and moment:
            moment -= bool(await list_task_ids_by_item_id(None, self.chat_id))
            await asyncio.sleep(0)
        await stop_item_tasks(None, self.chat_id)


async def stored_chat(chat_id: str) -> dict[str, Any]:
    from open_webui.models.chats import Chats

    stored = await Chats.get_chat_by_id(chat_id)
    return dict(stored.chat)


async def check(chat_id: str, is_new: bool) -> None:
    """Whether the tree is one, in both of Open WebUI's stores, and not half-written."""
    from open_webui.models.chats import Chats

    chat = await stored_chat(chat_id)
    messages = chat["history"]["messages"]
    assert is_new or chat["models"] == ["chosen"]
    for message_id, message in messages.items():
        parent = messages.get(message["parentId"])
        assert message["parentId"] is None or parent, "a parent is missing"
        assert parent is None or parent["role"] != message["role"]
        linked = [k for k, m in messages.items() if m["parentId"] == message_id]
        assert sorted(message["childrenIds"]) == sorted(linked)
        assert "refused" not in str(message.get("content"))
        trail = {message_id}
        while message["parentId"]:
            assert message["parentId"] not in trail, "a circle"
            trail.add(message["parentId"])
            message = messages[message["parentId"]]
    assert not messages or chat["history"]["currentId"] in messages
    rows = await Chats.get_messages_map_by_chat_id(chat_id) or {}
    assert set(rows) == set(messages)
    assert all(rows[k].get("parentId") == m["parentId"] for k, m in messages.items())


def check_columns(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Whether each new column of a question has an answer, and no column is lost."""
    for message_id in before.keys() & after.keys():
        old = before[message_id].get("models") or []
        new = after[message_id].get("models") or []
        assert new[: len(old)] == old, "a column is lost"
        answered = {after[k].get("modelIdx") for k in after[message_id]["childrenIds"]}
        assert answered >= set(range(len(old), len(new))), "a ghost column"


async def run(steps: list[list[tuple[str, int]]], person: Any) -> None:
    scene = await new_scene(person)
    chat_id = scene.chat_id
    for together in steps:
        before = (await stored_chat(chat_id))["history"]["messages"]
        await asyncio.gather(*(scene.step(kind, seed) for kind, seed in together))
        if all(kind in OURS for kind, _ in together):
            after = (await stored_chat(chat_id))["history"]["messages"]
            check_columns(before, after)
        for each in scene.chat_ids:
            await check(each, is_new=each != chat_id)


async def keeps_what_others_change(person: Any) -> None:
    """What changes while a form is open, or a model starts, stays changed."""
    from open_webui.models.chats import Chats

    scene = await new_scene(person)
    columns = {"models": ["one", "two"]}
    scene.at_the_form = partial(
        Chats.upsert_message_to_chat_by_id_and_message_id, scene.chat_id, "q", columns
    )
    scene.at_the_start = partial(
        Chats.update_chat_by_id, scene.chat_id, {"files": [{"id": "new"}]}
    )
    await scene.press("opinion", "a", random.Random(0))
    chat = await stored_chat(scene.chat_id)
    assert chat["history"]["messages"]["q"]["models"] == ["one", "two"]
    assert chat["files"] == [{"id": "new"}]
    assert len(chat["history"]["messages"]) == 3


async def makes_no_chat_from_one_that_is_gone(person: Any) -> None:
    """A chat that goes while the form is open leaves no new one behind."""
    from open_webui.models.chats import Chats

    scene = await new_scene(person)
    scene.at_the_form = partial(Chats.delete_chat_by_id, scene.chat_id)
    before = {chat.id for chat in await Chats.get_chats()}
    with pytest.raises(AqueductError, match="chat_gone"):
        await scene.press("new_chat", "a", random.Random(0))
    after = {chat.id for chat in await Chats.get_chats()}
    assert after == before - {scene.chat_id}


async def shows_what_was_typed_into_a_talk(person: Any) -> None:
    """A turn that began right after somebody's message does not hide it."""
    from open_webui.models.chats import Chats

    scene = await new_scene(person)
    talking = Thread("a", {"q", "a"})
    await scene.insert({"id": "typed", "parentId": "a", "content": "33?"})
    [typed] = [
        each
        for each in (await stored_chat(scene.chat_id))["history"]["messages"].values()
        if each["parentId"] == "typed"
    ]
    await scene.insert({"id": "turn", "parentId": "a", "content": "(two)"})
    chat = await Chats.get_chat_by_id(scene.chat_id)
    assert chat
    answer_id = chat.chat["history"]["currentId"]
    talking.add("turn", answer_id)
    desk = SimpleNamespace(press=SimpleNamespace(chat_id=scene.chat_id), person=person)
    await show_what_came(desk, talking)
    chat = await Chats.get_chat_by_id(scene.chat_id)
    assert chat
    assert chat.chat["history"]["currentId"] == chat.current_message_id == typed["id"]
    # Who has chosen to look at another branch stays there.
    await show_instead(scene.chat_id, answer_id, "a")
    assert (await stored_chat(scene.chat_id))["history"]["currentId"] == typed["id"]


async def writes_only_where_it_still_may(owner: Any, guest: Any) -> None:
    """A guest's right to write goes while the model of the new chat is set to work."""
    from open_webui.models.access_grants import AccessGrants
    from open_webui.models.shared_chats import SharedChats

    unshare = SharedChats.delete_by_chat_id
    forbid = partial(AccessGrants.set_access_grants, "shared_chat", access_grants=[])
    for withdraw in (None, unshare, forbid):
        scene = await new_scene(owner)
        await share(scene.chat_id, owner, guest)
        scene.person = guest
        if withdraw:
            scene.at_the_start = partial(withdraw, scene.chat_id)
        await scene.press("new_chat", "a", random.Random(0))
        [new_id] = scene.chat_ids[1:]
        assert (await stored_chat(new_id))["history"]["messages"]
        told = (await stored_chat(scene.chat_id))["history"]["messages"]["a"]["content"]
        assert told == "!" if withdraw else new_id in told, told


async def takes_along_only_what_one_may_see(owner: Any, guest: Any) -> None:
    """The owner's folder, settings and notes stay the owner's in a guest's new chat."""
    from open_webui.models.chats import Chats
    from open_webui.models.folders import FolderForm, Folders

    folder = await Folders.insert_new_folder(owner.id, FolderForm(name="Mine"))
    assert folder
    for person in (owner, guest):
        scene = await new_scene(owner)
        await share(scene.chat_id, owner, guest)
        scene.person = person
        params, note = {"system": "Be brief."}, {"meta": {"note": "private"}}
        await Chats.update_chat_by_id(scene.chat_id, {"params": params})
        await Chats.update_chat_folder_id_by_id_and_user_id(
            scene.chat_id, owner.id, folder.id
        )
        await Chats.upsert_message_to_chat_by_id_and_message_id(
            scene.chat_id, "q", note
        )
        await scene.press("new_chat", "a", AsIs())
        new = await Chats.get_chat_by_id(scene.chat_ids[-1])
        assert new
        seen = (
            new.folder_id,
            new.chat["params"],
            new.chat["history"]["messages"]["q"].get("meta"),
        )
        if person is owner:
            assert seen == (folder.id, params, note["meta"]), seen
        else:
            assert seen == (None, {}, None), seen
        await scene.press("opinion", "a", AsIs())
        assert scene.forms[-1]["params"] == (params if person is owner else {})


async def share(chat_id: str, owner: Any, guest: Any) -> None:
    """Let a guest go on in a chat."""
    from open_webui.models.access_grants import AccessGrants
    from open_webui.models.shared_chats import SharedChats

    grant = {"principal_type": "user", "principal_id": guest.id, "permission": "read"}
    await SharedChats.create(chat_id, owner.id, share_mode="continue")
    await AccessGrants.set_access_grants("shared_chat", chat_id, [grant])


async def leaves_errands_behind(person: Any) -> None:
    """A new chat out of a model's errand is a person's; other notes come along."""
    from open_webui.models.chats import Chats

    scene = await new_scene(person)
    errand = Errand("root", 1, 1, ("top", "one"), ("above",), "m")
    meta = errand.as_meta(scene.chat_id) | {"other": "note"}
    await Chats.upsert_message_to_chat_by_id_and_message_id(
        scene.chat_id, "q", {"meta": meta}
    )
    await scene.press("new_chat", "a", AsIs())
    [new_id] = scene.chat_ids[1:]
    question = (await Chats.get_messages_map_by_chat_id(new_id) or {})["q"]
    assert question["meta"] == {"other": "note"}
    assert (await asked_for(scene.chat_id, "a")).errand == errand


class AsIs(random.Random):
    """Picks the first of everything; of the ways to take a branch along, as it is."""

    def choice(self, seq: Sequence[Any]) -> Any:
        return seq[0]


async def new_scene(person: Any) -> Scene:
    """A chat with one question and its answer."""
    from open_webui.models.chats import ChatForm, Chats

    chat_id = str(uuid4())
    question = {"id": "q", "parentId": None, "childrenIds": ["a"], "role": "user"}
    answer = {"id": "a", "parentId": "q", "childrenIds": [], "role": "assistant"}
    history = {
        "currentId": "a",
        "messages": {
            "q": question | {"content": "?", "models": ["one"]},
            "a": answer | {"content": "!", "model": "one", "done": True},
        },
    }
    form = ChatForm(
        chat={"title": "t", "models": ["chosen"], "files": [], "history": history}
    )
    await Chats.insert_new_chat(chat_id, person.id, form)
    return Scene(person, chat_id)


def main() -> None:
    import open_webui.config  # noqa: F401 - brings the database up to date
    from open_webui.models.users import Users

    with asyncio.Runner() as runner:
        adding = Users.insert_new_user("u", "U", "u@example.org", role="admin")
        person = runner.run(adding)

        @settings(
            max_examples=40,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(STEPS)
        def trees_stay_trees(steps: list[list[tuple[str, int]]]) -> None:
            runner.run(run(steps, person))

        runner.run(keeps_what_others_change(person))
        runner.run(makes_no_chat_from_one_that_is_gone(person))
        runner.run(leaves_errands_behind(person))
        runner.run(shows_what_was_typed_into_a_talk(person))
        adding = Users.insert_new_user("g", "G", "g@example.org", role="admin")
        guest = runner.run(adding)
        runner.run(writes_only_where_it_still_may(person, guest))
        runner.run(takes_along_only_what_one_may_see(person, guest))
        trees_stay_trees()


if __name__ == "__main__":
    main()
