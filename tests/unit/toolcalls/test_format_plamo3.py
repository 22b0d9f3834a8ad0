"""plamo3: begin and end tokens around the name and its JSON arguments."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call


def begin(part: str) -> str:
    return f"<|plamo:begin_{part}:plamo|>"


def end(part: str) -> str:
    return f"<|plamo:end_{part}:plamo|>"


def request(name: str, arguments: str, constraint: str = "") -> str:
    return (
        f"{begin('tool_request')}{begin('tool_name')}{name}{end('tool_name')}"
        f"{begin('tool_arguments')}{constraint}<|plamo:msg|>{arguments}"
        f"{end('tool_arguments')}{end('tool_request')}"
    )


def requests(*items: str) -> str:
    return begin("tool_requests") + "".join(items) + end("tool_requests")


WEATHER = request("get_weather", '{"city": "札幌"}')
SAPPORO = call("get_weather", city="札幌")


def test_a_plain_call():
    assert_read(requests(WEATHER), SAPPORO)


def test_several_calls_and_no_arguments():
    assert_read(requests(WEATHER, request("get_time", "{}")), SAPPORO, call("get_time"))


def test_prose_before():
    assert_read(f"調べます。{requests(WEATHER)}", "調べます。", SAPPORO)


def test_with_the_constraint():
    text = requests(
        request("get_weather", '{"city": "札幌"}', "<|plamo:constrain|>json")
    )
    assert_read(text, SAPPORO)


def test_missing_end_markers():
    assert_read(requests(WEATHER).removesuffix(end("tool_requests")), SAPPORO)


def test_unknown_tool():
    assert_untouched(requests(WEATHER).replace("get_weather", "get_ramen"))


def test_cut():
    text = requests(WEATHER)
    cut = text[: text.index("札") + 1]
    assert_read(f"調べます。{cut}", "調べます。", CUT, truncated=True)


def test_cut_in_a_closer():
    text = requests(WEATHER).removesuffix("_requests:plamo|>")
    assert_read(text, SAPPORO, truncated=True)


def test_the_end_of_the_turn_is_not_shown():
    text = requests(request("get_time", "{}", "<|plamo:constrain|>json"))
    assert_read(f"{text}<|plamo:tag|>", call("get_time"))


def test_a_thought_that_talks_of_a_call():
    thought = f"{begin('think')}\n[get_time()] would do.\n{end('think')}"
    text = requests(request("get_time", "{}"))
    assert_read(thought + text, " ".join(thought.split()), call("get_time"))
