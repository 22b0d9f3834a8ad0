"""An A2A agent of the protocol's own SDK: 1.0 and 0.3, by JSON-RPC and HTTP+JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.agents.answers import error, eventually, items
from tests.e2e.backends.programs import A2AServer, ScriptedUpstream
from tests.e2e.backends.script import HELLO
from tests.e2e.backends.seen import seen
from tests.e2e.backends.usual import listed_models, show_picture, stop_slow_answer
from tests.e2e.continue_with.presses import Tab, answering
from tests.webui import WebUI

PROGRAMS = {
    "jsonrpc": "a2a-sdk, 1.0 by JSON-RPC",
    "rest": "a2a-sdk, 1.0 by HTTP+JSON",
    "v03": "a2a-sdk, 0.3 by JSON-RPC",
    "v03rest": "a2a-sdk, 0.3 by HTTP+JSON",
}
every_way = pytest.mark.parametrize("way", PROGRAMS)


@pytest.fixture(autouse=True)
def entries(
    a2a_server: A2AServer,
    scripted_upstream: ScriptedUpstream,
    set_agents: Callable[[str], None],
    suite_installed: WebUI,
) -> None:
    """The agent, once for each way to reach it, and one whose host is not allowed."""
    agents = [
        {"id": way, "name": "Helper", "backend": "a2a", "url": getattr(a2a_server, way)}
        for way in PROGRAMS
    ]
    other = a2a_server.jsonrpc.replace("127.0.0.1", "localhost")
    agents.append({"id": "other", "name": "Other", "backend": "a2a", "url": other})
    set_agents(json.dumps(agents))
    listed_models(suite_installed)


@every_way
async def test_text_and_a_status_while_it_works(tab: Tab, way: str):
    answer = await (await tab.send(f"agents.{way}", "Good morning")).answer()
    assert answer["content"] == HELLO
    lines = [line["description"] for line in answer["statusHistory"]]
    assert "Thinking about it" in lines
    assert answer["statusHistory"][-1]["done"] is True
    seen("a2a", PROGRAMS[way], "text")


@every_way
async def test_a_question_is_asked_and_the_task_goes_on(
    tab: Tab, a2a_server: A2AServer, way: str
):
    tab.fill = answering(answer="Bern")
    answer = await (await tab.send(f"agents.{way}", "INPUT_REQUIRED")).answer()
    assert tab.forms[0]["message"] == "Which city?"
    assert answer["content"] == "You chose Bern."
    first, second = a2a_server.tasks()[-2:]
    assert first["id"] == second["id"]


@every_way
async def test_a_question_may_be_answered_in_the_next_message(
    tab: Tab, a2a_server: A2AServer, way: str
):
    asked = await tab.send(f"agents.{way}", "INPUT_REQUIRED")
    assert (await asked.answer())["content"] == "Which city?"
    answer = await (await tab.send(f"agents.{way}", "Rome", after=asked)).answer()
    assert answer["content"] == "You chose Rome."
    first, second = a2a_server.tasks()[-2:]
    assert first["id"] == second["id"]


@every_way
async def test_each_branch_of_a_chat_has_a_context_of_its_own(
    tab: Tab, a2a_server: A2AServer, way: str
):
    model = f"agents.{way}"
    first = await tab.send(model, "My word is plum.")
    await first.answer()
    second = await tab.send(model, "The second is pear.", after=first)
    await second.answer()
    other = await tab.send(model, "The second is quince.", after=first)
    await other.answer()
    plum, pear, quince = a2a_server.tasks()[-3:]
    assert pear["context"] == plum["context"]
    assert pear["text"] == "The second is pear."
    seen("a2a", PROGRAMS[way], "sessions")
    assert quince["context"] != plum["context"]
    assert "My word is plum." in quince["text"]
    assert "pear" not in quince["text"]
    seen("a2a", PROGRAMS[way], "forks")


@every_way
async def test_a_picture_reaches_the_agent(tab: Tab, way: str):
    answer = await show_picture(tab, f"agents.{way}")
    assert answer["content"] == "image-1.png: 21 bytes"
    seen("a2a", PROGRAMS[way], "files in")


@every_way
async def test_a_file_of_the_agent_is_attached(
    tab: Tab, suite_installed: WebUI, way: str
):
    answer = await (await tab.send(f"agents.{way}", "MAKE_FILE")).answer()
    [file] = answer["files"]
    assert file["name"] == "report.txt"
    with suite_installed.client() as admin:
        stored = admin.get(f"/api/v1/files/{file['id']}/content").raise_for_status()
    assert stored.text == "scripted report\n"
    seen("a2a", PROGRAMS[way], "files out")


@every_way
async def test_an_error_is_told(tab: Tab, way: str):
    answer = await (await tab.send(f"agents.{way}", "ERR500")).answer()
    assert error(answer).startswith("Helper reported an error.")
    assert "500" in error(answer)


@every_way
async def test_stop_cancels_the_task(tab: Tab, a2a_server: A2AServer, way: str):
    _, answer = await stop_slow_answer(tab, f"agents.{way}")
    await eventually(
        lambda: a2a_server.tasks()[-1]["ended"] == "canceled", "the end of the task"
    )
    assert items(answer, "x_aqueduct:state")
    seen("a2a", PROGRAMS[way], "cancel")


async def test_a_card_that_points_to_another_private_host_is_refused(
    tab: Tab, a2a_server: A2AServer
):
    before = len(a2a_server.tasks())
    answer = await (await tab.send("agents.other", "Good morning")).answer()
    assert "Other refers to 127.0.0.1" in error(answer)
    assert len(a2a_server.tasks()) == before
