"""What is asked of an agent whatever protocol it speaks."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from devkit.chat_socket import ChatSocket, Turn
from tests.e2e.agents.answers import cards
from tests.e2e.backends.script import TOOL_ANSWER
from tests.e2e.backends.seen import seen
from tests.e2e.continue_with.presses import Fill, Tab, answering, cancel
from tests.webui import WebUI

PICTURE = base64.b64encode(b"not much of a picture").decode()

# Both ways in which `check_asks_before_deleting` may be answered.
allowed_and_declined = pytest.mark.parametrize(
    ("fill", "result"),
    [
        (answering(allow="once"), "/notes/old.txt is gone"),
        (cancel, "The user did not allow this."),
    ],
)


async def show_picture(chats: ChatSocket, model: str) -> dict[str, Any]:
    """The answer to a question with a picture."""
    image = {"url": f"data:image/png;base64,{PICTURE}"}
    question = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": image},
    ]
    turn = await chats.send(model, question)  # type: ignore[arg-type]
    return await turn.answer()


async def stop_slow_answer(
    chats: ChatSocket, model: str
) -> tuple[Turn, dict[str, Any]]:
    """A turn stopped in the middle of its hundred words, and what is left of it."""
    turn = await chats.send(model, "SLOWLY")
    async for event in turn.events():
        if "word1" in str(event["data"]):
            break
    await turn.stop()
    answer = await turn.answer()
    assert "word99" not in answer["content"]
    return turn, answer


async def check_branches(
    chats: ChatSocket, model: str, row: tuple[str, str], asked: Callable[[], str]
) -> tuple[Turn, Turn, Turn]:
    """Two messages, and another second one: each branch knows itself alone.

    `asked` gives what the model behind the agent was told last; `row` is the table's.
    Gives the three turns.
    """
    first = await chats.send(model, "My word is plum.")
    await first.answer()
    second = await chats.send(model, "The second is pear.", after=first)
    await second.answer()
    told = asked()
    assert told.count("plum") == told.count("pear") == 1
    seen(*row, "sessions")

    other = await chats.send(model, "The second is quince.", after=first)
    await other.answer()
    told = asked()
    assert told.count("plum") == told.count("quince") == 1
    assert "pear" not in told
    seen(*row, "forks")
    return first, second, other


async def check_asks_before_deleting(
    tab: Tab, model: str, row: tuple[str, str], fill: Fill, result: str
) -> None:
    """The agent's own tool for deleting waits for what the user says."""
    tab.fill = fill
    answer = await (await tab.send(model, "TOOL_DELETE")).answer()
    assert "/notes/old.txt" in tab.forms[0]["message"]
    assert [card[:2] for card in cards(answer)] == [("delete_file", result)]
    assert answer["content"].endswith(TOOL_ANSWER)
    seen(*row, "approvals")


def listed_models(webui: WebUI) -> dict[str, str]:
    """Id and name of the models there are; Open WebUI then looks for new ones."""
    with webui.client() as admin:
        models = admin.get("/api/models").raise_for_status().json()["data"]
    return {model["id"]: model["name"] for model in models}
