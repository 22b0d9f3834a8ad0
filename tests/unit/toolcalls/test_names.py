"""Which names are names of the request's tools."""

import pytest

from tests.unit.toolcalls.support import (
    TOOLS,
    assert_read,
    assert_untouched,
    call,
    tool,
)

HERMES = '<tool_call>\n{{"name": "{}", "arguments": {{"city": "Pori"}}}}\n</tool_call>'
PORI = call("get_weather", city="Pori")


@pytest.mark.parametrize(
    "name",
    [
        "get_weather",
        "Get_Weather",
        "GET_WEATHER",
        "get-weather",
        "functions.get_weather",
        "functions.Get-Weather",
    ],
)
def test_names_that_mean_the_tool(name):
    assert_read(HERMES.format(name), PORI)


@pytest.mark.parametrize(
    "name",
    [
        "get_weathers",
        "getweather",
        "get",
        "weather",
        "get weather",
        "tools.get_weather",
        "get_weather()",
        "",
        "default_api:get_weather",
    ],
)
def test_names_that_do_not(name):
    assert_untouched(HERMES.format(name))


def test_the_call_carries_the_name_of_the_request():
    tools = [tool("Get-Weather", ["city"], city="string")]
    assert_read(
        HERMES.format("get_weather"), call("Get-Weather", city="Pori"), tools=tools
    )


def test_the_exact_name_wins():
    tools = [
        tool("Get_Weather", ["city"], city="string"),
        tool("get_weather", ["city"], city="string"),
    ]
    assert_read(HERMES.format("get_weather"), PORI, tools=tools)
    assert_read(
        HERMES.format("Get_Weather"), call("Get_Weather", city="Pori"), tools=tools
    )


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\n<function=Get-Weather>\n<parameter=city>\nPori\n</parameter>\n"
        "</function>\n</tool_call>",
        "<tool_call>Get-Weather\n<arg_key>city</arg_key>\n<arg_value>Pori</arg_value>\n"
        "</tool_call>",
        '[TOOL_CALLS]Get-Weather[ARGS]{"city": "Pori"}',
        '<｜DSML｜invoke name="Get-Weather">\n<｜DSML｜parameter name="city" '
        'string="true">Pori</｜DSML｜parameter>\n</｜DSML｜invoke>',
    ],
)
def test_in_other_formats_too(text):
    assert_read(text, PORI)


@pytest.mark.parametrize(
    "name", ["mcp-server_list-items", "api.v2.items", "Items", "a", "x" * 64, "t_0"]
)
@pytest.mark.parametrize(
    "pattern",
    [
        '<tool_call>\n{{"name": "{}", "arguments": {{}}}}\n</tool_call>',
        "<tool_call>\n<function={}>\n</function>\n</tool_call>",
        "<tool_call>{}\n</tool_call>",
        "<|tool_call_begin|>functions.{}:0<|tool_call_argument_begin|>{{}}<|tool_call_end|>",
        "[TOOL_CALLS]{}[ARGS]{{}}",
        "<|tool_call>call:{}{{}}<tool_call|>",
        '<function_calls>\n<invoke name="{}">\n</invoke>\n</function_calls>',
    ],
)
def test_unusual_names(name, pattern):
    assert_read(pattern.format(name), call(name), tools=[tool(name), *TOOLS])
