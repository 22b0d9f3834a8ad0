"""functiongemma: `call:name{key:value}` with strings between escape tags."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

ONE = (
    "<start_function_call>call:get_weather{city:<escape>Graz<escape>,days:4}"
    "<end_function_call>"
)


def test_a_plain_call():
    check(ONE, call("get_weather", city="Graz", days=4))


def test_several_calls_and_no_arguments():
    check(
        f"{ONE}<start_function_call>call:get_time{{}}<end_function_call>",
        call("get_weather", city="Graz", days=4),
        call("get_time"),
    )


def test_prose_around():
    check(
        f"Servus! {ONE} Gleich.",
        "Servus!",
        call("get_weather", city="Graz", days=4),
        "Gleich.",
    )


def test_lists_objects_and_booleans():
    check(
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
    check(
        "<start_function_call>call:python{code:<escape>d = {'a': [1], 'b': \"}\"}"
        "<escape>}<end_function_call>",
        call("python", code="d = {'a': [1], 'b': \"}\"}"),
    )


def test_a_string_of_digits_stays_a_string():
    check(ONE.replace("Graz", "8010"), call("get_weather", city="8010", days=4))


def test_missing_end_marker():
    check(
        ONE.removesuffix("<end_function_call>"),
        call("get_weather", city="Graz", days=4),
    )


def test_unknown_tool():
    check_untouched(ONE.replace("get_weather", "get_strudel"))


def test_cut():
    check(ONE[:60], CUT, truncated=True)
