"""k2_horizon: ifm tags around JSON or around key and value tags."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

JSON = """\
<ifm|tool_calls>
<ifm|tool_call>{"name": "get_weather", "arguments": {"city": "Abu Dhabi"}}</ifm|tool_call>
</ifm|tool_calls>"""

TAGS = """\
<ifm|tool_calls>
<ifm|tool_call>get_weather
<ifm|arg_key>city</ifm|arg_key>
<ifm|arg_value>Abu Dhabi</ifm|arg_value>
</ifm|tool_call>
</ifm|tool_calls>"""

ABU_DHABI = call("get_weather", city="Abu Dhabi")


def test_a_plain_call_in_json():
    check(JSON, ABU_DHABI)


def test_a_plain_call_in_tags():
    check(TAGS, ABU_DHABI)


def test_typed_tags():
    check(
        TAGS.replace(
            "</ifm|arg_key>", "</ifm|arg_key>\n<ifm|arg_type>string</ifm|arg_type>"
        ),
        ABU_DHABI,
    )


def test_several_calls_and_no_arguments():
    check(
        "<ifm|tool_calls><ifm|tool_call>get_time</ifm|tool_call>"
        '<ifm|tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</ifm|tool_call>'
        "</ifm|tool_calls>",
        call("get_time"),
        call("add", a=1, b=2),
    )


def test_prose_around():
    check(f"Checking.\n{JSON}\nOk.", "Checking.", ABU_DHABI, "Ok.")
    check(f"Checking.\n{TAGS}\nOk.", "Checking.", ABU_DHABI, "Ok.")


def test_unknown_tool():
    check_untouched(JSON.replace("get_weather", "get_dune"))
    check_untouched(TAGS.replace("get_weather", "get_dune"))


def test_cut():
    check(JSON[:90], CUT, truncated=True)
    check(TAGS[:100], CUT, truncated=True)
