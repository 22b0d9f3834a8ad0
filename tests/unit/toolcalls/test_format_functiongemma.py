"""functiongemma: `call:name{key:value}` with strings between escape tags."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = (
    "<start_function_call>call:get_weather{city:<escape>Graz<escape>,days:4}"
    "<end_function_call>"
)


def test_a_plain_call():
    assert_read(ONE, call("get_weather", city="Graz", days=4))


def test_several_calls_and_no_arguments():
    assert_read(
        f"{ONE}<start_function_call>call:get_time{{}}<end_function_call>",
        call("get_weather", city="Graz", days=4),
        call("get_time"),
    )


def test_prose_around():
    assert_read(
        f"Servus! {ONE} Gleich.",
        "Servus!",
        call("get_weather", city="Graz", days=4),
        "Gleich.",
    )


def test_lists_objects_and_booleans():
    assert_read(
        "<start_function_call>call:search{query:<escape>inns<escape>,"
        "tags:[<escape>garden<escape>,<escape>dogs, too<escape>],"
        "filters:{open:true,stars:4.5}}<end_function_call>",
        call(
            "search",
            query="inns",
            tags=["garden", "dogs, too"],
            filters={"open": True, "stars": 4.5},
        ),
    )


def test_braces_and_colons_inside_a_string():
    assert_read(
        "<start_function_call>call:python{code:<escape>d = {'a': [1], 'b': \"}\"}"
        "<escape>}<end_function_call>",
        call("python", code="d = {'a': [1], 'b': \"}\"}"),
    )


def test_a_string_of_digits_stays_a_string():
    assert_read(ONE.replace("Graz", "8010"), call("get_weather", city="8010", days=4))


def test_missing_end_marker():
    assert_read(
        ONE.removesuffix("<end_function_call>"),
        call("get_weather", city="Graz", days=4),
    )


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_strudel"))


def test_cut():
    assert_read(ONE[:60], CUT, truncated=True)
