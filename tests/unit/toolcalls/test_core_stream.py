"""The filter's hooks on streams of chunks, as Open WebUI hands them over."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from filters.tool_call_recovery import Filter
from shared.toolcalls.streams import StreamStore

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time", "parameters": {}}}
BODY = {"tools": [WEATHER, CLOCK]}
PARIS = (
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
)
ROME = PARIS.replace("Paris", "Rome")


class Chat:
    """One message's stream through a filter; what Open WebUI would gather from it."""

    def __init__(
        self, filter_: Filter | None = None, message_id: str = "m1", **valves: Any
    ) -> None:
        self.filter = filter_ or Filter()
        if valves:
            self.filter.valves = self.filter.Valves(**valves)
        self.message_id = message_id
        self.model: dict[str, Any] = {"id": "small"}
        self.events: list[dict[str, Any]] = []
        self.statuses: list[str] = []

    async def emit(self, event: dict[str, Any]) -> None:
        self.statuses.append(event["data"]["description"])

    def send(self, event: dict[str, Any]) -> dict[str, Any] | None:
        passed = asyncio.run(
            self.filter.stream(
                event,
                __metadata__={"message_id": self.message_id, "user_id": "u"},
                __body__=BODY,
                __model__=self.model,
                __event_emitter__=self.emit,
            )
        )
        if passed:
            self.events.append(passed)
        return passed

    def delta(
        self, finish_reason: str | None = None, **delta: Any
    ) -> dict[str, Any] | None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return self.send({"id": "c", "choices": [choice]})

    def say(self, *texts: str) -> "Chat":
        for text in texts:
            self.delta(content=text)
        return self

    def stop(self, reason: str = "stop") -> "Chat":
        self.delta(reason)
        return self

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return [c["delta"] for e in self.events for c in e.get("choices", ())]

    def text(self, field: str = "content") -> str:
        return "".join(delta.get(field) or "" for delta in self.deltas)

    def calls(self) -> list[tuple[str, Any]]:
        """Calls as Open WebUI puts them together: by index, arguments appended."""
        found: dict[int, list[str]] = {}
        for delta in self.deltas:
            for part in delta.get("tool_calls") or ():
                call = found.setdefault(part["index"], ["", ""])
                call[0] = part["function"].get("name") or call[0]
                call[1] += part["function"].get("arguments") or ""
        return [(name, json.loads(arguments)) for name, arguments in found.values()]

    @property
    def finish_reason(self) -> str | None:
        return self.events[-1]["choices"][0]["finish_reason"]


def test_prose_passes_at_once_and_as_it_came():
    chat = Chat()
    event = {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hello, you"}}]}
    before = json.dumps(event)
    assert json.dumps(chat.send(event)) == before


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_text_then_call_then_text(size: int):
    source = f"Let me look.\n\n{PARIS}\nDone, I think."
    chat = Chat().say(*(source[i : i + size] for i in range(0, len(source), size)))
    chat.stop()
    assert chat.text() == "Let me look.\n\n\nDone, I think."
    assert chat.calls() == [("get_weather", {"city": "Paris"})]
    assert chat.finish_reason == "tool_calls"
    first = next(d for d in chat.deltas if "tool_calls" in d)
    assert "Let me" not in (first.get("content") or "")


def test_text_before_a_call_leaves_before_it():
    chat = Chat().say(f"Look: {PARIS}").stop()
    kinds = [set(delta) for delta in chat.deltas]
    assert kinds == [{"content"}, {"tool_calls"}]


def test_several_calls_have_their_own_indexes_and_ids():
    chat = Chat().say(PARIS, "\n", ROME).stop()
    parts = [part for d in chat.deltas for part in d.get("tool_calls", ())]
    assert [part["index"] for part in parts] == [0, 1]
    assert len({part["id"] for part in parts}) == 2
    assert [arguments["city"] for _, arguments in chat.calls()] == ["Paris", "Rome"]


def test_a_chunk_of_which_nothing_is_left_is_dropped():
    assert Chat().delta(content="<tool_call>") is None


def test_two_messages_on_one_filter_do_not_mix():
    filter_ = Filter()
    one, two = Chat(filter_, "one"), Chat(filter_, "two")
    one.say(PARIS[:30])
    two.say("No tool is ", "needed.").stop()
    one.say(PARIS[30:]).stop()
    assert two.text() == "No tool is needed."
    assert one.calls() == [("get_weather", {"city": "Paris"})]
    assert one.text() == ""
    assert two.calls() == []


def test_the_rounds_of_one_message_begin_anew():
    filter_ = Filter()
    Chat(filter_).say(PARIS).stop()
    again = Chat(filter_).say(ROME).stop()
    assert again.calls() == [("get_weather", {"city": "Rome"})]


def test_a_second_last_chunk_keeps_the_reason():
    chat = Chat().say(PARIS).stop().stop()
    reasons = [event["choices"][0]["finish_reason"] for event in chat.events]
    assert reasons == [None, "tool_calls", "tool_calls"]


def test_an_api_caller_has_no_message_and_tells_tools_before():
    filter_, request = Filter(), SimpleNamespace(state=SimpleNamespace())
    asyncio.run(filter_.request(dict(BODY), __metadata__={}, __request__=request))
    event = {"id": "c", "choices": [{"index": 0, "delta": {"content": PARIS}}]}
    passed = asyncio.run(filter_.stream(event, __request__=request))
    assert passed["choices"][0]["delta"]["tool_calls"]


def test_choices_are_kept_apart():
    chat = Chat()
    chunks = [(0, PARIS[:20]), (1, "Hi "), (0, PARIS[20:]), (1, "you.")]
    for index, text in chunks:
        chat.send({"choices": [{"index": index, "delta": {"content": text}}]})
    assert chat.calls() == [("get_weather", {"city": "Paris"})]
    assert chat.text() == "Hi you."


def test_a_call_cut_by_the_limit_becomes_a_notice():
    chat = Chat().say("Well. ", PARIS[:60]).stop("length")
    assert chat.calls() == []
    assert "<tool_call>" not in chat.text()
    assert chat.text().startswith("Well. \n\n*(A tool call was cut off")
    assert chat.finish_reason == "length"


def test_held_text_leaves_with_the_last_chunk():
    chat = Chat().say("The opener is <tool_").stop()
    assert chat.text() == "The opener is <tool_"
    assert chat.finish_reason == "stop"


def test_usage_ends_a_stream_without_a_last_chunk():
    chat = Chat().say("Look: ", PARIS, "\nand <tool_")
    chat.send({"choices": [], "usage": {"total_tokens": 7}})
    assert chat.text() == "Look: \nand <tool_"
    assert chat.calls() == [("get_weather", {"city": "Paris"})]


def test_an_error_passes_and_the_outlet_keeps_what_was_held():
    chat = Chat().say("Some text <tool_")
    error = {"error": {"message": "gone"}}
    assert chat.send(error) == error
    output = [
        {"type": "message", "content": [{"type": "output_text", "text": "Some text "}]}
    ]
    message = {
        "id": "m1",
        "role": "assistant",
        "content": "Some text ",
        "output": output,
    }
    body = {"id": "m1", "messages": [message]}
    metadata = {"message_id": "m1", "user_id": "u"}
    asyncio.run(chat.filter.outlet(body, __metadata__=metadata))
    assert message["content"] == "Some text <tool_"
    assert "".join(part["text"] for part in output[0]["content"]) == "Some text <tool_"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_a_call_in_the_thoughts_of_a_family_that_calls_there(field: str):
    chat = Chat()
    chat.delta(**{field: "I need the weather. "})
    chat.delta(**{field: PARIS})
    chat.stop()
    assert chat.text(field) == "I need the weather. "
    assert chat.calls() == [("get_weather", {"city": "Paris"})]


def test_a_call_only_thought_of_stays_a_thought():
    chat = Chat()
    chat.delta(reasoning_content=f"I could call {PARIS}, but no.")
    chat.say("It is cold.").stop()
    assert chat.calls() == []
    assert sorted(chat.text("reasoning_content")) == sorted(
        f"I could call {PARIS}, but no."
    )
    assert chat.text() == "It is cold."


def test_thoughts_can_be_left_alone():
    chat = Chat(scan_thoughts="off")
    chat.delta(reasoning_content=PARIS)
    chat.stop()
    assert chat.text("reasoning_content") == PARIS


def native(index: int, **function: str) -> dict[str, Any]:
    return {"index": index, "id": f"n{index}", "type": "function", "function": function}


def test_native_calls_pass_untouched():
    chat = Chat()
    chat.delta(tool_calls=[native(0, name="get_weather", arguments="")])
    chat.delta(tool_calls=[{"index": 0, "function": {"arguments": '{"city":'}}])
    chat.delta(tool_calls=[{"index": 0, "function": {"arguments": ' "Oslo"}'}}])
    chat.stop("tool_calls")
    assert chat.calls() == [("get_weather", {"city": "Oslo"})]


@pytest.mark.parametrize("arguments", ["", "{}"])
def test_an_empty_native_call_gets_its_arguments_from_the_text(arguments: str):
    chat = Chat().say(PARIS)
    chat.delta(tool_calls=[native(0, name="get_weather", arguments=arguments)])
    chat.stop("tool_calls")
    assert chat.calls() == [("get_weather", {"city": "Paris"})]


def test_an_empty_native_call_before_the_text_that_carries_it():
    chat = Chat()
    chat.delta(tool_calls=[native(0, name="get_weather", arguments="{}")])
    chat.say(PARIS).stop("tool_calls")
    assert chat.calls() == [("get_weather", {"city": "Paris"})]


def test_arguments_alone_in_the_text():
    chat = Chat().say('I call it with {"city": "Bonn"} now.')
    chat.delta(tool_calls=[native(0, name="get_weather", arguments="{}")])
    chat.stop("tool_calls")
    assert chat.calls() == [("get_weather", {"city": "Bonn"})]


def test_a_native_call_beside_a_leaked_one():
    chat = Chat().say(PARIS)
    chat.delta(tool_calls=[native(0, name="get_time", arguments="{}")])
    chat.stop("tool_calls")
    assert sorted(chat.calls()) == [
        ("get_time", {}),
        ("get_weather", {"city": "Paris"}),
    ]


def test_the_user_is_told_once_for_each_call():
    chat = Chat().say(PARIS, ROME).stop()
    assert chat.statuses == ["Recovered a call to get_weather"] * 2
    silent = Chat(show_status=False).say(PARIS).stop()
    assert silent.statuses == []


def test_models_and_families_that_the_admin_leaves_out():
    assert Chat(off_for_models="big, sm*").say(PARIS).stop().text() == PARIS
    assert Chat(leave_out="hermes").say(PARIS).stop().text() == PARIS


def test_events_that_are_no_chunks_pass():
    chat = Chat().say("<tool_")
    for event in (
        {"type": "response.output_text.delta", "delta": PARIS},
        {"event": {"type": "status", "data": {"description": "x"}}},
    ):
        assert chat.send(event) is event


def test_without_tools_nothing_is_touched():
    event = {"choices": [{"index": 0, "delta": {"content": PARIS}}]}
    assert asyncio.run(Filter().stream(event)) is event
    assert event["choices"][0]["delta"]["content"] == PARIS


def test_the_tools_of_the_metadata_serve_as_well():
    metadata = {
        "message_id": "m",
        "tools": {"get_weather": {"spec": WEATHER["function"]}},
    }
    event = {"choices": [{"index": 0, "delta": {"content": PARIS}}]}
    passed = asyncio.run(Filter().stream(event, __metadata__=metadata))
    assert passed["choices"][0]["delta"]["tool_calls"][0]["index"] == 0


def test_abandoned_streams_are_dropped():
    now = [0.0]
    store = StreamStore(clock=lambda: now[0])
    for number in range(1200):
        store.add(str(number), object())
    assert len(store) == 500
    now[0] = 1000.0
    store.add("last", object())
    assert len(store) == 1


def test_the_outlet_cleans_saved_messages():
    leaked = f"Let me see.\n\n{PARIS}"
    message = {
        "id": "m2",
        "role": "assistant",
        "content": leaked,
        "output": [
            {"type": "message", "content": [{"type": "output_text", "text": leaked}]},
            {"type": "function_call", "name": "get_weather", "arguments": "{}"},
        ],
    }
    question = {"id": "m1", "role": "user", "content": PARIS}
    body = {"id": "m2", "messages": [question, message]}
    metadata = {
        "message_id": "m2",
        "tools": {"get_weather": {"spec": WEATHER["function"]}},
    }
    asyncio.run(Filter().outlet(body, __metadata__=metadata))
    assert message["content"] == "Let me see."
    assert message["output"][0]["content"][0]["text"] == "Let me see."
    assert question["content"] == PARIS
