"""qwen3_coder: function and parameter tags, values raw (Qwen 3 Coder, 3.5 to 3.8 ...)."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

INNER = """\
<function=get_weather>
<parameter=city>
Örebro
</parameter>
<parameter=days>
2
</parameter>
</function>"""
ONE = f"<tool_call>\n{INNER}\n</tool_call>"
OREBRO = call("get_weather", city="Örebro", days=2)


def one(name: str, **values: str) -> str:
    """A well-formed call, its values given as the text between the newlines."""
    body = "".join(
        f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items()
    )
    return f"<tool_call>\n<function={name}>\n{body}</function>\n</tool_call>"


def test_a_plain_call():
    assert_read(ONE, OREBRO)


def test_several_wrappers():
    assert_read(
        f"{ONE}\n{one('bash', command='ls')}", OREBRO, call("bash", command="ls")
    )


def test_several_functions_in_one_wrapper():
    assert_read(
        f"<tool_call>\n{INNER}\n<function=get_time>\n</function>\n</tool_call>",
        OREBRO,
        call("get_time"),
    )


def test_prose_before_between_and_after():
    assert_read(
        f"I look.\n\n{ONE}\n\nAnd now the time.\n{one('get_time')}\nDone.",
        "I look.",
        OREBRO,
        "And now the time.",
        call("get_time"),
        "Done.",
    )


def test_a_thought_before_stays():
    assert_read(
        f"<think>\nWeather.\n</think>\n\n{ONE}", "<think> Weather. </think>", OREBRO
    )


def test_inside_a_thought():
    assert_read(f"<think>\nI call it.\n{ONE}", "<think> I call it.", OREBRO)


def test_no_arguments():
    assert_read(
        "<tool_call>\n<function=get_time></function>\n</tool_call>", call("get_time")
    )


# the opener was omitted: the commonest leak of all


def test_no_opener():
    assert_read(f"I look.\n\n{INNER}\n</tool_call>", "I look.", OREBRO)


def test_neither_opener_nor_closer():
    assert_read(f"I look.\n\n{INNER}", "I look.", OREBRO)


def test_no_opener_several_times():
    assert_read(f"{INNER}\n</tool_call>\n{INNER}\n</tool_call>", OREBRO, OREBRO)


def test_an_orphan_closer_and_prose_after():
    assert_read(f"{INNER}\n</tool_call>\n\nI wait.", OREBRO, "I wait.")


# missing closers


def test_missing_closer_at_the_end():
    assert_read(ONE.removesuffix("\n</tool_call>"), OREBRO)


def test_missing_closers_of_function_and_wrapper():
    assert_read(ONE.removesuffix("\n</function>\n</tool_call>"), OREBRO)


def test_missing_end_of_a_parameter_before_the_next():
    assert_read(ONE.replace("Örebro\n</parameter>\n", "Örebro\n"), OREBRO)


def test_missing_end_of_the_last_parameter():
    assert_read(ONE.replace("2\n</parameter>\n", "2\n"), OREBRO)


# values


def test_values_without_newlines():
    assert_read(
        "<tool_call>\n<function=get_weather>\n<parameter=city>Örebro</parameter>\n"
        "<parameter=days>2</parameter>\n</function>\n</tool_call>",
        OREBRO,
    )


def test_only_one_newline_is_stripped_at_each_end():
    code = "\n    def f():\n        return 1\n\n"
    assert_read(one("python", code=code), call("python", code=code))


def test_html_and_code_in_a_value():
    code = '<div class="x">{a < b && c}</div>\n<!-- </div> -->\n#include <map>'
    assert_read(one("python", code=code), call("python", code=code))


def test_a_fence_in_a_value():
    code = "doc = '''\n```json\n{}\n```\n'''"
    assert_read(one("python", code=code), call("python", code=code))


def test_an_unclosed_fence_in_a_value_does_not_hide_the_next_call():
    assert_read(
        f"{one('bash', command='echo ```')}\n{ONE}",
        call("bash", command="echo ```"),
        OREBRO,
    )


@pytest.mark.parametrize("value", ["42", "-0.5", "true", "[1, 2]", '{"a": 1}', '"q"'])
def test_a_string_stays_a_string(value):
    assert_read(one("search", query=value), call("search", query=value))


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("False", False)]
)
def test_booleans_as_json_and_python_write_them(text, value):
    assert_read(one("set_light", on=text), call("set_light", on=value))


@pytest.mark.parametrize("text", ["null", "None"])
def test_null_where_the_schema_allows_it(text):
    assert_read(
        one("set_light", on="true", room=text), call("set_light", on=True, room=None)
    )


def test_json_in_a_value():
    assert_read(
        one("search", query="x", tags='["a", "b"]', filters='{"lang": "sv"}'),
        call("search", query="x", tags=["a", "b"], filters={"lang": "sv"}),
    )


def test_python_literals_in_a_value():
    assert_read(
        one(
            "search", query="x", tags="['a', 'b']", filters="{'new': True, 'old': None}"
        ),
        call("search", query="x", tags=["a", "b"], filters={"new": True, "old": None}),
    )


def test_numbers():
    assert_read(one("add", a="1e3", b="-7"), call("add", a=1000.0, b=-7))


# not calls


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_moose"))
    assert_untouched(INNER.replace("get_weather", "get_moose"))


def test_a_value_that_does_not_fit():
    assert_untouched(ONE.replace("\n2\n", "\ntwo\n"))


def test_a_required_argument_is_missing():
    assert_untouched(one("search", limit="3"))


def test_the_tags_in_prose():
    assert_untouched("The model writes <function=...> and <parameter=...> tags.")


# cut by max_tokens


@pytest.mark.parametrize("length", [45, 52, 60, 80, 85])
def test_cut(length):
    assert_read(f"I look.\n{ONE[:length]}", "I look.", CUT, truncated=True)


def test_cut_without_an_opener():
    assert_read(f"I look.\n{INNER[:50]}", "I look.", CUT, truncated=True)
