"""Turns of ours among Open WebUI's own changes to a chat, on its real database.

Run by test_continue_with_tree.py in a process of its own, as importing Open WebUI
opens its database: `python -m tests.contract.continue_with_tree`.
"""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from shared.errors import AqueductError
from shared.host.turns import Answerer, NewTurn, start_turn
from shared.orchestration.buttons import new_user_message
from shared.orchestration.tree import column_models

MODELS = ("one", "two", "three")
OURS = ("continue", "opinion", "compare", "refused")
THEIRS = ("edit", "regenerate", "delete")

STEPS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(OURS + THEIRS), st.integers(0, 2**16)),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=8,
)


class Scene:
    """One chat, its user, and a completion handler that only writes the turn."""

    def __init__(self, person: Any, chat_id: str) -> None:
        self.person = person
        self.chat_id = chat_id
        self.refuse = False
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

        if form["user_message"].get("content") == "refused":
            raise HTTPException(400, "the model went away")
        entries = form["message_ids"]
        await Chats.insert_chat_turn(self.chat_id, user, form["user_message"], entries)
        models = form["user_message"].get("models") or [form["model"]]
        await Chats.update_chat_by_id(self.chat_id, {"models": models}, touch=False)
        for entry in entries:
            await Chats.upsert_message_to_chat_by_id_and_message_id(
                self.chat_id, entry["message_id"], {"content": "said", "done": True}
            )
        return {"task_ids": []}

    async def chat(self) -> dict[str, Any]:
        from open_webui.models.chats import Chats

        stored = await Chats.get_chat_by_id(self.chat_id)
        return dict(stored.chat)

    async def step(self, kind: str, seed: int) -> None:
        """One change somewhere in the tree; a refusal is as good as a success."""
        messages = (await self.chat())["history"]["messages"]
        pick = random.Random(seed)
        answers = sorted(key for key, m in messages.items() if m["role"] == "assistant")
        if not answers:
            return
        answer = messages[pick.choice(answers)]
        try:
            await getattr(self, kind)(messages, answer, pick)
        except AqueductError as error:
            if error.code not in ("message_gone", "not_started", "answer_running"):
                raise

    async def turn(self, message: dict[str, Any], *models: str, **more: Any) -> None:
        answerers = [Answerer(model, place) for place, model in enumerate(models)]
        turn = NewTurn(self.chat_id, message, answerers, "nobody", **more)
        await start_turn(self.request, self.person, turn)

    async def continue_(self, messages, answer, pick) -> None:
        message = new_user_message(answer["id"], "go on", "two")
        await self.turn(message, pick.choice(MODELS))

    async def refused(self, messages, answer, pick) -> None:
        await self.turn(new_user_message(answer["id"], "refused", "two"), "two")

    async def opinion(self, messages, answer, pick) -> None:
        question = messages[answer["parentId"]]
        await self.turn(question, pick.choice(MODELS), stored=True)

    async def compare(self, messages, answer, pick) -> None:
        question = messages[answer["parentId"]]
        models = [*column_models(messages, question), "two", "three"]
        question = {**question, "models": models}
        await self.turn(question, "two", "three", stored=True)

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


setattr(Scene, "continue", Scene.continue_)


async def check(scene: Scene) -> None:
    """Whether the tree is one, in both of Open WebUI's stores, and not half-written."""
    from open_webui.models.chats import Chats

    chat = await scene.chat()
    messages = chat["history"]["messages"]
    assert chat["models"] == ["chosen"]
    for message_id, message in messages.items():
        parent = messages.get(message["parentId"])
        assert message["parentId"] is None or parent, "a parent is missing"
        assert parent is None or parent["role"] != message["role"]
        linked = [k for k, m in messages.items() if m["parentId"] == message_id]
        assert sorted(message["childrenIds"]) == sorted(linked)
        assert message.get("content") != "refused"
        trail = {message_id}
        while message["parentId"]:
            assert message["parentId"] not in trail, "a circle"
            trail.add(message["parentId"])
            message = messages[message["parentId"]]
    assert not messages or chat["history"]["currentId"] in messages
    rows = await Chats.get_messages_map_by_chat_id(scene.chat_id) or {}
    assert set(rows) == set(messages)
    assert all(rows[k].get("parentId") == m["parentId"] for k, m in messages.items())


async def run(steps: list[list[tuple[str, int]]], person: Any) -> None:
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
    form = ChatForm(chat={"title": "t", "models": ["chosen"], "history": history})
    await Chats.insert_new_chat(chat_id, person.id, form)
    scene = Scene(person, chat_id)
    for together in steps:
        await asyncio.gather(*(scene.step(kind, seed) for kind, seed in together))
        await check(scene)


def main() -> None:
    import open_webui.config  # noqa: F401 - brings the database up to date
    from open_webui.models.users import Users

    with asyncio.Runner() as runner:
        adding = Users.insert_new_user("u", "U", "u@example.org", role="admin")
        person = runner.run(adding)

        @settings(
            max_examples=25,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(STEPS)
        def trees_stay_trees(steps: list[list[tuple[str, int]]]) -> None:
            runner.run(run(steps, person))

        trees_stay_trees()


if __name__ == "__main__":
    main()
