"""What a user reads when an agent fails: what came stays, then one sentence."""

from __future__ import annotations

import re

import pytest

from devkit.chat_socket import ChatSocket
from devkit.demo_agent import DemoAgent
from devkit.webui import set_valves
from tests.e2e.agents.answers import error, items, outcome
from tests.webui import WebUI

SO_FAR = "This message holds nothing but commands"
GERMAN = {"variables": {"{{USER_LANGUAGE}}": "de-DE"}}

REFUSALS = {
    "/fail 401": (
        "Demo agent did not accept its key (401). An administrator has to check it. "
        "(Incorrect API key provided.)"
    ),
    "/fail 403": (
        "Demo agent does not allow this (403). (This key may not use the model.)"
    ),
    "/fail 404": (
        "{host} does not know this model or address (404). "
        "(The model does not exist.)"
    ),
    "/fail 429": (
        "Demo agent is busy (429). Please try again in 7 s. "
        "(Too many requests; try again in 7 s.)"
    ),
    "/fail 503": (
        "Demo agent has a fault on its own side (503). Please try again later. "
        "(The server is overloaded.)"
    ),
}
BREAKS = {
    "/break stream": "Demo agent reported an error.",
    "/break cut": "The answer of Demo agent broke off: {host} closed the connection.",
    "/break garbage": "Demo agent sent something that cannot be read",
    "/break utf8": "Demo agent sent something that cannot be read",
    "/break big": "Demo agent sent a line of over",
}

AGENTS_WITHOUT_DEMO = "- {id: other, url: 'http://127.0.0.1:9/v1', model: none}"


@pytest.mark.parametrize("command", REFUSALS)
async def test_each_refusal_has_its_sentence(
    chats: ChatSocket, scene: WebUI, command: str
):
    answer = await (await chats.send("agents.demo", command)).answer()
    host = scene.demo.url.removeprefix("http://")
    assert error(answer) == REFUSALS[command].format(host=host)


@pytest.mark.parametrize("command", BREAKS)
async def test_what_came_before_a_break_stays(
    chats: ChatSocket, scene: WebUI, command: str
):
    answer = await (await chats.send("agents.demo", command)).answer()
    host = scene.demo.url.removeprefix("http://")
    assert answer["content"].startswith(SO_FAR)
    assert error(answer).startswith(BREAKS[command].format(host=host))
    assert [item["status"] for item in items(answer, "message")] == ["completed"]


@pytest.mark.parametrize(
    ("command", "sentence", "so_far"),
    [
        ("/silent first", "Impatient agent did not begin to answer within 1.5 s.", ""),
        (
            "/silent middle",
            "Impatient agent fell silent: nothing came for 1 s.",
            SO_FAR,
        ),
    ],
)
async def test_a_silent_agent_is_left(
    chats: ChatSocket, demo: DemoAgent, command: str, sentence: str, so_far: str
):
    answer = await (await chats.send("agents.impatient", command)).answer()
    assert error(answer) == sentence
    assert answer["content"].startswith(so_far)
    assert await outcome(demo) == "cancelled"


async def test_a_server_that_is_not_there(chats: ChatSocket):
    answer = await (await chats.send("agents.gone", "hello")).answer()
    assert error(answer) == (
        "Gone agent cannot be reached: 127.0.0.1:9 refuses connections."
    )


@pytest.mark.parametrize(
    ("agent", "text", "sentence"),
    [
        ("demo", "/fail 429", "Demo agent ist ausgelastet (429). Bitte in 7 s noch"),
        ("demo", "/break cut", "Die Antwort von Demo agent brach ab: "),
        ("impatient", "/silent first", "Impatient agent hat binnen 1.5 s nicht zu"),
        ("gone", "Hallo", "Gone agent ist nicht erreichbar: 127.0.0.1:9 nimmt keine"),
        ("faulty", "Hallo", "In Aqueduct ging etwas schief."),
    ],
)
async def test_a_german_reads_german(
    chats: ChatSocket, agent: str, text: str, sentence: str
):
    answer = await (await chats.send(f"agents.{agent}", text, **GERMAN)).answer()
    assert error(answer).startswith(sentence)


@pytest.mark.usefixtures("set_agents")  # puts the agents back
async def test_an_agent_that_was_taken_away(chats: ChatSocket, scene: WebUI):
    # Open WebUI goes on listing it until somebody loads the list of models.
    with scene.client() as admin:
        set_valves(admin, "agents", AGENTS=AGENTS_WITHOUT_DEMO)
    answer = await (await chats.send("agents.demo", "hello")).answer()
    assert error(answer) == (
        "There is no agent “demo” any more. Please choose another model."
    )


async def test_a_fault_of_ours_is_found_in_the_log(chats: ChatSocket, scene: WebUI):
    answer = await (await chats.send("agents.faulty", "hello")).answer()
    found = re.fullmatch(
        r"Something went wrong inside Aqueduct\. "
        r"The server log has it under ([0-9a-f]{8})\.",
        error(answer),
    )
    assert found is not None, error(answer)
    log = scene.log_path.read_text("utf-8", "replace")
    line = f"Turn failed, error {found[1]}\n"
    assert log.count(line) == 1
    after = log.partition(line)[2]
    assert after.startswith("Traceback")
    assert "is not JSON serializable" in after


async def test_the_configuration_error_explains_the_mend(chats: ChatSocket):
    turn = await chats.send("agents.configuration-error", "hello")
    text = (await turn.answer())["content"]
    assert re.search(r"line \d+, `url`: an address begins with http", text)
    assert re.search(r"line \d+, `modell`: this key is not known", text)
    assert "Admin Panel → Functions → Agents" in text
    assert "- id: my-agent" in text
