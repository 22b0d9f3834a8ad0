"""kimi_k3: channels of open, close and sep tokens; arguments carry their type."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call, tool


def channel(name: str, body: str, attributes: str = "") -> str:
    return f"<|open|>{name}{attributes}<|sep|>{body}<|close|>{name}<|sep|>"


def argument(key: str, kind: str, value: str) -> str:
    return channel("argument", value, f' key="{key}" type="{kind}"')


WEATHER = channel(
    "call",
    argument("city", "string", "Ürümqi") + argument("days", "number", "2"),
    ' tool="get_weather" index="1"',
)
CLOCK = channel("call", "", ' tool="get_time" index="2"')
URUMQI = call("get_weather", city="Ürümqi", days=2)


def test_a_plain_call():
    assert_read(channel("tools", WEATHER), URUMQI)


def test_several_calls_and_no_arguments():
    assert_read(channel("tools", WEATHER + CLOCK), URUMQI, call("get_time"))


def test_prose_before():
    assert_read(f"I look.{channel('tools', WEATHER)}", "I look.", URUMQI)


def test_after_a_response_channel():
    text = channel("response", "I look.") + channel("tools", WEATHER)
    assert_read(text, "I look.", URUMQI)


def test_every_type():
    arguments = (
        argument("query", "string", '"quoted" {and} [more]\n<b>')
        + argument("limit", "number", "3")
        + argument("tags", "array", '["x", "y"]')
        + argument("filters", "object", '{"on": true, "of": null}')
    )
    assert_read(
        channel("tools", channel("call", arguments, ' tool="search" index="1"')),
        call(
            "search",
            query='"quoted" {and} [more]\n<b>',
            limit=3,
            tags=["x", "y"],
            filters={"on": True, "of": None},
        ),
    )


def test_booleans_and_null():
    arguments = argument("on", "boolean", "false") + argument("room", "null", "null")
    assert_read(
        channel("tools", channel("call", arguments, ' tool="set_light" index="1"')),
        call("set_light", on=False, room=None),
    )


def test_a_string_of_digits_stays_a_string():
    text = channel(
        "call", argument("city", "string", "110101"), ' tool="get_weather" index="1"'
    )
    assert_read(channel("tools", text), call("get_weather", city="110101"))


def test_entities_in_attributes():
    tools = [tool("ask", ['the "key"'], **{'the "key"': "string"})]
    text = channel(
        "call",
        argument("the &quot;key&quot;", "string", "A &amp; B"),
        ' tool="ask" index="1"',
    )
    assert_read(
        channel("tools", text),
        call("ask", **{'the "key"': "A &amp; B"}),
        tools=tools,
    )


def test_missing_closers_at_the_end():
    text = channel("tools", WEATHER)
    assert_read(text.removesuffix("<|close|>tools<|sep|>"), URUMQI)


def test_unknown_tool():
    assert_untouched(channel("tools", WEATHER).replace("get_weather", "get_bazaar"))


def test_cut():
    assert_read(
        f"I look.{channel('tools', WEATHER)[:110]}", "I look.", CUT, truncated=True
    )


def test_the_end_of_the_message_is_not_shown():
    text = channel("tools", WEATHER)
    assert_read(f"{text}<|close|>message<|sep|>", URUMQI)
