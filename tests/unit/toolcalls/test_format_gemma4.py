"""gemma4: `call:name{key:value}` with strings between quote tokens."""

from tests.unit.toolcalls.support import (
    CUT,
    assert_calls,
    assert_read,
    assert_untouched,
    call,
)

ONE = '<|tool_call>call:get_weather{city:<|"|>Porto<|"|>,unit:<|"|>celsius<|"|>}<tool_call|>'
PORTO = call("get_weather", city="Porto", unit="celsius")


def test_a_plain_call():
    assert_read(ONE, PORTO)


def test_several_calls_and_no_arguments():
    assert_read(
        f"{ONE}<|tool_call>call:get_time{{}}<tool_call|>", PORTO, call("get_time")
    )


def test_prose_between_and_around():
    assert_read(
        f"First {ONE} then <|tool_call>call:get_time{{}}<tool_call|> and done.",
        "First",
        PORTO,
        "then",
        call("get_time"),
        "and done.",
    )


def test_nested_values():
    assert_read(
        '<|tool_call>call:search{query:<|"|>port wine<|"|>,limit:3,'
        'tags:[<|"|>tawny<|"|>,<|"|>ruby<|"|>],'
        "filters:{year:{min:1994,max:2011},dry:false,cellar:null}}<tool_call|>",
        call(
            "search",
            query="port wine",
            limit=3,
            tags=["tawny", "ruby"],
            filters={"year": {"min": 1994, "max": 2011}, "dry": False, "cellar": None},
        ),
    )


def test_a_string_holds_anything():
    code = 'x = {"a": [1, 2]}  # call:get_time{}\nprint("}", x)'
    assert_read(
        f'<|tool_call>call:python{{code:<|"|>{code}<|"|>}}<tool_call|>',
        call("python", code=code),
    )


def test_the_quote_token_came_out_as_a_plain_quote():
    assert_read(ONE.replace('<|"|>', '"'), PORTO)


def test_markers_lost():
    assert_read(ONE.removeprefix("<|tool_call>").removesuffix("<tool_call|>"), PORTO)


def test_missing_end_marker():
    assert_read(ONE.removesuffix("<tool_call|>"), PORTO)


def test_after_a_thought():
    assert_calls(
        f"<|channel>thought\nWeather it is.<channel|>{ONE}",
        PORTO,
        hidden=["<|tool_call>", "<tool_call|>"],
    )


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_surf"))


def test_cut():
    assert_read(f"Let me see. {ONE[:50]}", "Let me see.", CUT, truncated=True)


def test_arguments_as_in_python():
    assert_read(
        '<|tool_call>call:search(query="f(x) + 1", limit=3)<tool_call|>',
        call("search", query="f(x) + 1", limit=3),
    )
    assert_read("<|tool_call>call:get_time()", call("get_time"))
    assert_untouched('Then call:search(query="x") is what it writes.')
    assert_untouched('call:search(query="x")')
