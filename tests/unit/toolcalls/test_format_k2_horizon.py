"""k2_horizon: ifm tags around JSON or around key and value tags."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

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
    assert_read(JSON, ABU_DHABI)


def test_a_plain_call_in_tags():
    assert_read(TAGS, ABU_DHABI)


def test_typed_tags():
    assert_read(
        TAGS.replace(
            "</ifm|arg_key>", "</ifm|arg_key>\n<ifm|arg_type>string</ifm|arg_type>"
        ),
        ABU_DHABI,
    )


def test_several_calls_and_no_arguments():
    assert_read(
        "<ifm|tool_calls><ifm|tool_call>get_time</ifm|tool_call>"
        '<ifm|tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</ifm|tool_call>'
        "</ifm|tool_calls>",
        call("get_time"),
        call("add", a=1, b=2),
    )


def test_prose_around():
    assert_read(f"Checking.\n{JSON}\nOk.", "Checking.", ABU_DHABI, "Ok.")
    assert_read(f"Checking.\n{TAGS}\nOk.", "Checking.", ABU_DHABI, "Ok.")


def test_unknown_tool():
    assert_untouched(JSON.replace("get_weather", "get_dune"))
    assert_untouched(TAGS.replace("get_weather", "get_dune"))


def test_cut():
    assert_read(JSON[:90], CUT, truncated=True)
    assert_read(TAGS[:100], CUT, truncated=True)
