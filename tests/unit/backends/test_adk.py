"""Google's ADK server: recorded runs, sessions and forks, confirmations, failures."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.agents.kinds.adk import ADKAgent
from shared.backends.adk import ADKBackend, confirmed, events_until
from shared.backends.adk_stream import ADKDecoder, Confirmation
from shared.backends.base import Turn
from shared.errors import UpstreamBroken
from shared.events import AgentEvent, Citation, FileOutput, Finished
from tests.unit.backends.recorded import (
    Person,
    hear,
    payloads,
    recorded,
    results_of,
    session_of,
    user_turn,
)
from tests.unit.backends.support import (
    PROPERTY,
    calls_of,
    check_call_events,
    chunkings,
    read_sse,
    reason_of,
    text_of,
    thoughts_of,
    usage_of,
)
from tests.unit.backends.upstream import Exchange, make_endpoint, serve

HELLO = "Hello from the scripted model. This text is streamed in several small chunks."
FINAL = "Tool finished. Final scripted answer: it is **21 degrees** in Bern."
OLD_EVENTS = [{"invocationId": name} for name in ("i1", "i1", "i2", "i2")]


def decoded(*names: str) -> list[AgentEvent]:
    decoder = ADKDecoder()
    events: list[AgentEvent] = []
    for name in names:
        for _, payload in payloads(recorded(f"adk/{name}.sse")):
            events += decoder.feed(payload)
    return [*events, *decoder.finish()]


def fed(*events: dict[str, Any]) -> list[AgentEvent]:
    decoder = ADKDecoder()
    said = [said for event in events for said in decoder.feed(event)]
    return [*said, *decoder.finish()]


def parts(*given_: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"content": {"parts": list(given_)}, **more}


def test_text_is_told_once_though_the_whole_event_repeats_it():
    assert text_of(decoded("text")) == HELLO


def test_text_that_was_not_streamed():
    assert text_of(fed(parts({"text": "a"}), parts({"text": "b"}))) == "ab"


def test_a_tool_call_with_its_result():
    events = decoded("tool")
    assert calls_of(events) == [("get_weather", '{"city":"Bern"}')]
    [(output, failed)] = results_of(events)
    assert output
    assert not failed
    assert text_of(events) == f"Let me check. {FINAL}"


@pytest.mark.parametrize("line", [0, 1])
def test_an_error_in_the_stream(line):
    _, payload = payloads(recorded("adk/error.sse"))[line]
    with pytest.raises(UpstreamBroken) as caught:
        ADKDecoder().feed(payload)
    assert "Invalid API key (scripted)" in caught.value.fields["detail"]


def test_a_confirmation_and_what_follows_a_refusal():
    decoder = ADKDecoder()
    events: list[AgentEvent] = []
    for _, payload in payloads(recorded("adk/confirmation.sse")):
        events += decoder.feed(payload)
    [asked] = decoder.confirmations
    assert (asked.name, asked.arguments) == ("get_weather", {"city": "Bern"})
    assert results_of(events) == []
    for _, payload in payloads(recorded("adk/confirmation-refused.sse")):
        events += decoder.feed(payload)
    assert results_of(events) == [('{"error":"This tool call is rejected."}', True)]
    assert text_of(events) == f"Let me check. {FINAL}"


def test_a_saved_file_is_noted():
    decoder = ADKDecoder()
    for _, payload in payloads(recorded("adk/file.sse")):
        decoder.feed(payload)
    assert decoder.artifacts == [("report.txt", 0)]
    assert decoder.invocation_id


def test_a_tool_that_needs_a_login():
    call = {"id": "c", "name": "adk_request_credential", "args": {}}
    with pytest.raises(UpstreamBroken) as caught:
        fed(parts({"functionCall": call}))
    assert caught.value.code == "agent_login_required"


def test_thoughts_files_tokens_and_pages():
    grounding = {"groundingChunks": [{"web": {"uri": "https://x", "title": "X"}}] * 2}
    counts = {"promptTokenCount": 3, "totalTokenCount": 5, "details": [1]}
    events = fed(
        parts({"text": "Hm.", "thought": True}, {"text": "Yes."}),
        parts(
            {"inlineData": {"mimeType": "text/plain", "data": "-_8=", "displayName": "a"}},
            usageMetadata=counts,
            groundingMetadata=grounding,
        ),
        parts(usageMetadata=counts),
    )  # fmt: skip
    assert thoughts_of(events) == "Hm."
    assert FileOutput("data:text/plain;base64,+/8=", "text/plain", "a") in events
    assert events.count(Citation("https://x", "X")) == 1
    assert usage_of(events) == {"promptTokenCount": 6, "totalTokenCount": 10}


@pytest.mark.parametrize(
    ("written", "reason"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter")],
)
def test_finish_reasons(written, reason):
    assert reason_of(fed(parts({"text": "a"}, finishReason=written))) == reason


def test_a_call_without_a_result_gets_an_empty_one():
    call = {"id": "c1", "name": "look", "args": None}
    events = fed(parts({"functionCall": call}))
    check_call_events([e for e in events if not isinstance(e, Finished)][1:])
    assert calls_of(events) == [("look", "{}")]
    assert results_of(events) == [("", False)]


@PROPERTY
@given(st.data())
def test_any_chunking_gives_the_same(data):
    stream = recorded("adk/tool.sse")
    pieces = data.draw(chunkings(stream))
    assert [e.data for e in read_sse(pieces)] == [e.data for e in read_sse([stream])]


class Server:
    """Plays recorded runs in turn; its one old session has two invocations."""

    def __init__(self, *runs: str) -> None:
        self.runs = list(runs)
        self.asked: list[Exchange] = []

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.append(exchange)
        path, body = exchange.path, exchange.body
        if path.endswith("/run_sse"):
            await exchange.head()
            await exchange.send(recorded(f"adk/{self.runs.pop(0)}.sse"))
        elif path.endswith("/list-apps"):
            await exchange.answer(200, ["one", "two"])
        elif "/artifacts/" in path:
            data = {"mimeType": "text/plain", "data": "aGk="}
            await exchange.answer(200, {"inlineData": data})
        elif path.endswith("/gone"):
            await exchange.answer(404, {"detail": "Session not found: gone"})
        elif body is None:
            await exchange.answer(200, {"id": "old", "events": OLD_EVENTS})
        else:
            await exchange.answer(200, {"id": "new"})

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [e.body for e in self.asked if e.path.endswith(path) and e.body]


def backend(client, url: str) -> ADKBackend:
    return ADKBackend(client, make_endpoint(url), "app")


async def test_a_new_session_hears_the_whole_branch(client):
    server = Server("text")
    async with serve(server) as upstream:
        turn = user_turn("a", "b", "c", user_id="u/1")
        told = await hear(backend(client, upstream.url), turn)
    assert text_of(told.events) == HELLO
    assert server.asked[0].path == "/v1/apps/app/users/u%2F1/sessions"
    [run] = server.bodies("/run_sse")
    assert (run["sessionId"], run["userId"], run["streaming"]) == ("new", "u/1", True)
    assert "Assistant: b" in run["newMessage"]["parts"][0]["text"]
    session = session_of(told.events)
    assert session["session_id"] == "new"
    assert session["invocation_id"].startswith("e-")


async def test_a_session_is_continued_with_what_is_new(client):
    server = Server("text")
    session = {"session_id": "old", "invocation_id": "i2"}
    async with serve(server) as upstream:
        turn = user_turn("a", "b", "c", session=session)
        await hear(backend(client, upstream.url), turn)
    _, asked = server.asked
    assert asked.body["sessionId"] == "old"
    assert asked.body["newMessage"]["parts"] == [{"text": "c"}]


async def test_a_fork_takes_along_the_events_that_it_goes_on_from(client):
    server = Server("text")
    session = {"session_id": "old", "invocation_id": "i1"}
    async with serve(server) as upstream:
        turn = user_turn("a", "b", "c", session=session)
        await hear(backend(client, upstream.url), turn)
    [made] = server.bodies("/sessions")
    assert made["events"] == OLD_EVENTS[:2]
    [run] = server.bodies("/run_sse")
    assert run["sessionId"] == "new"
    assert run["newMessage"]["parts"] == [{"text": "c"}]


async def test_a_session_without_that_invocation_is_begun_anew(client):
    server = Server("text")
    async with serve(server) as upstream:
        session = {"session_id": "old", "invocation_id": "i9"}
        turn = user_turn("a", "b", "c", session=session)
        await hear(backend(client, upstream.url), turn)
    [made] = server.bodies("/sessions")
    assert made["events"] == []
    [run] = server.bodies("/run_sse")
    assert "Assistant: b" in run["newMessage"]["parts"][0]["text"]


async def test_a_session_that_is_gone_is_begun_anew(client):
    server = Server("text")
    async with serve(server) as upstream:
        turn = user_turn("a", "b", "c", session={"session_id": "gone"})
        told = await hear(backend(client, upstream.url), turn)
    assert text_of(told.events) == HELLO
    assert [run["sessionId"] for run in server.bodies("/run_sse")] == ["new"]


@pytest.mark.parametrize("allows", [True, False])
async def test_a_tool_that_needs_permission(client, allows):
    server = Server("confirmation", "confirmation-refused")
    person = Person(allows=allows)
    async with serve(server) as upstream:
        turn = user_turn("weather?", dialogs=person)
        told = await hear(backend(client, upstream.url), turn)
    assert [request.tool for request in person.asked] == ["get_weather"]
    answer = server.bodies("/run_sse")[1]["newMessage"]["parts"][0]["functionResponse"]
    assert answer["name"] == "adk_request_confirmation"
    assert answer["id"].startswith("adk-")
    assert answer["response"] == {"confirmed": allows}
    assert len(results_of(told.events)) == 1


async def test_a_permission_names_every_path_of_its_call():
    arguments = {"moves": [{"dest": "/etc/a"}], "files": ["b"]}
    person = Person()
    await confirmed(person, [Confirmation("adk-1", "move", arguments)])
    [asked] = person.asked
    assert asked.paths == ("/etc/a", "b")


async def test_saved_files_come_with_the_answer(client):
    server = Server("file")
    async with serve(server) as upstream:
        told = await hear(backend(client, upstream.url), user_turn("hi"))
    [file] = [e for e in told.events if isinstance(e, FileOutput)]
    assert file == FileOutput("data:text/plain;base64,aGk=", "text/plain", "report.txt")
    path = "/v1/apps/app/users/user/sessions/new/artifacts/report.txt/versions/0"
    assert path in [e.path for e in server.asked]


async def test_the_users_files_go_along(client):
    urls = ("data:image/png;base64,QQ==", "https://x/y.png")
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content = [{"type": "text", "text": "see"}, *images]
    server = Server("text")
    async with serve(server) as upstream:
        turn = Turn(({"role": "user", "content": content},))
        await hear(backend(client, upstream.url), turn)
    [run] = server.bodies("/run_sse")
    inline = {"mimeType": "image/png", "displayName": "image-1.png", "data": "QQ=="}
    linked = {"mimeType": "image/png", "displayName": "image-2", "fileUri": urls[1]}
    assert run["newMessage"]["parts"] == [
        {"text": "see"},
        {"inlineData": inline},
        {"fileData": linked},
    ]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b'{"detail": "Out of order"}', "said_error"),
        (b"<html>Busy", "unreadable"),
        (b'{"other": 1}', "unreadable"),
        (b"data: {broken\n\n", "unreadable"),
        (b'data: {"content": {"parts": [{"functionCall": 5}]}}\n\n', "unreadable"),
        (b"data: [1]\n\n", "unreadable"),
        (b'data: {"content": {}}\n\n', "empty_answer"),
    ],
)
async def test_streams_that_say_nothing_readable(client, said, code):
    async def script(exchange: Exchange) -> None:
        if exchange.path.endswith("/run_sse"):
            await exchange.head()
            await exchange.send(said)
        else:
            await exchange.answer(200, {"id": "new"})

    async with serve(script) as upstream:
        told = await hear(backend(client, upstream.url), user_turn("hi"))
    assert told.code == code


async def test_apps_are_discovered(client):
    async with serve(Server()) as upstream:
        speaking = backend(client, upstream.url)
        assert [model.id for model in await speaking.discover()] == ["one", "two"]
        await speaking.health()


def test_events_that_a_session_does_not_have():
    assert events_until({"events": OLD_EVENTS}, "i9") == []
    assert events_until({}, "i1") == []


def test_an_agent_needs_an_app():
    with pytest.raises(ValueError, match="give the name of an app"):
        ADKAgent(id="a", url="http://x")
