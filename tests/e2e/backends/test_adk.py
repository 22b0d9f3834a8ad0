"""Apps on the server of Google's ADK, with a scripted model behind them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from devkit.chat_socket import Turn
from tests.e2e.agents.answers import cards, error, eventually, items
from tests.e2e.backends.programs import ScriptedUpstream
from tests.e2e.backends.script import HELLO, TOOL_ANSWER
from tests.e2e.backends.seen import seen
from tests.e2e.backends.usual import (
    PICTURE,
    listed_models,
    show_picture,
    stop_slow_answer,
)
from tests.e2e.continue_with.presses import Fill, Tab, answering, cancel
from tests.webui import WebUI

APP = "agents.app"
CAREFUL = "agents.careful"
PROGRAM = "ADK API server"


@pytest.fixture(autouse=True)
def entries(
    adk_server: str,
    scripted_upstream: ScriptedUpstream,
    set_agents: Callable[[str], None],
    suite_installed: WebUI,
) -> None:
    """The two apps, and all that the server has."""
    server = {"backend": "adk", "url": adk_server}
    agents = [
        {"id": "app", "name": "App", "model": "scripted", **server},
        {"id": "careful", "name": "Careful", "model": "careful", **server},
        {"id": "all", "name": "All", "discover": True, **server},
    ]
    set_agents(json.dumps(agents))
    listed_models(suite_installed)


@pytest.fixture
def session_of(adk_server: str, suite_installed: WebUI) -> Callable[[Any], Any]:
    """What the server keeps of the session that an answer left behind."""

    def session(answer: Any) -> Any:
        state = items(answer, "x_aqueduct:state")[-1]["data"]
        with suite_installed.client() as admin:
            user_id = admin.get("/api/v1/auths/").raise_for_status().json()["id"]
        place = f"/apps/scripted/users/{user_id}/sessions/{state['session_id']}"
        return httpx.get(adk_server + place, trust_env=False).json()

    return session


async def test_text(tab: Tab):
    answer = await (await tab.send(APP, "Good morning")).answer()
    assert answer["content"] == HELLO
    seen("adk", PROGRAM, "text")


async def test_an_apps_own_tool_has_its_card(tab: Tab):
    answer = await (await tab.send(APP, "TOOL_WEATHER")).answer()
    assert cards(answer) == [("get_weather", "21 degrees in Bern", "completed")]
    assert answer["content"].endswith(TOOL_ANSWER)
    seen("adk", PROGRAM, "tool cards")


@pytest.mark.parametrize(
    ("fill", "status", "result"),
    [
        (answering(allow="once"), "completed", "21 degrees in Bern"),
        (cancel, "failed", "rejected"),
    ],
)
async def test_an_app_asks_before_it_uses_its_tool(
    tab: Tab, fill: Fill, status: str, result: str
):
    tab.fill = fill
    answer = await (await tab.send(CAREFUL, "TOOL_WEATHER")).answer()
    assert '"city": "Bern"' in tab.forms[0]["message"]
    [(name, output, ended)] = cards(answer)
    assert (name, ended) == ("get_weather", status)
    assert result in output
    assert answer["content"].endswith(TOOL_ANSWER)
    seen("adk", PROGRAM, "approvals")


async def test_a_file_of_the_app_is_attached(tab: Tab, suite_installed: WebUI):
    answer = await (await tab.send(CAREFUL, "TOOL_GEMINI")).answer()
    [file] = answer["files"]
    assert file["name"] == "report.txt"
    with suite_installed.client() as admin:
        stored = admin.get(f"/api/v1/files/{file['id']}/content").raise_for_status()
    assert stored.text == "scripted report\n"
    seen("adk", PROGRAM, "files out")


async def test_each_branch_of_a_chat_has_its_own_past(
    tab: Tab, session_of: Callable[[Any], Any]
):
    def texts(session: Any) -> list[str]:
        events = [e["content"]["parts"][0] for e in session["events"]]
        return [part["text"] for part in events]

    async def told(text: str, after: Turn | None = None) -> tuple[Turn, Any]:
        turn = await tab.send(APP, text, after=after)
        return turn, session_of(await turn.answer())

    first, plum = await told("My word is plum.")
    _, pear = await told("The second is pear.", first)
    assert pear["id"] == plum["id"]
    assert texts(pear) == ["My word is plum.", HELLO, "The second is pear.", HELLO]
    seen("adk", PROGRAM, "sessions")

    _, quince = await told("The second is quince.", first)
    assert quince["id"] != plum["id"]
    assert texts(quince) == ["My word is plum.", HELLO, "The second is quince.", HELLO]
    seen("adk", PROGRAM, "forks")


async def test_a_picture_reaches_the_app(tab: Tab, session_of: Callable[[Any], Any]):
    answer = await show_picture(tab, APP)
    assert answer["content"] == HELLO
    _, part = session_of(answer)["events"][0]["content"]["parts"]
    assert part["inlineData"]["data"] == PICTURE
    seen("adk", PROGRAM, "files in")


async def test_an_error_is_told(tab: Tab):
    answer = await (await tab.send(APP, "ERR401")).answer()
    assert error(answer).startswith("App reported an error.")
    assert "Invalid API key (scripted)" in error(answer)


async def test_stop_ends_the_run(tab: Tab, session_of: Callable[[Any], Any]):
    _, answer = await stop_slow_answer(tab, APP)
    await eventually(
        lambda: "aborted" in str(session_of(answer)["events"]), "the end of the run"
    )
    seen("adk", PROGRAM, "cancel")


async def test_the_servers_apps_are_models(suite_installed: WebUI):
    names = listed_models(suite_installed)
    assert names["agents.all.scripted"] == "All: scripted"
    assert names["agents.all.careful"] == "All: careful"
    seen("adk", PROGRAM, "discovery")
