"""generic_json: a bare JSON object, as any small model may write a call."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = '{"name": "get_weather", "arguments": {"city": "Oulu"}}'
OULU = call("get_weather", city="Oulu")


def test_a_plain_call():
    assert_read(ONE, OULU)


def test_over_several_lines():
    assert_read(
        '{\n  "name": "add",\n  "arguments": {\n    "a": 1,\n    "b": 2\n  }\n}\n',
        call("add", a=1, b=2),
    )


def test_a_list():
    assert_read(
        f'[{ONE}, {{"name": "get_time", "arguments": {{}}}}]', OULU, call("get_time")
    )


def test_one_after_the_other():
    assert_read(
        f'{ONE}\n{{"name": "get_time", "arguments": {{}}}}', OULU, call("get_time")
    )


def test_alone_in_a_fence():
    assert_read(f"```json\n{ONE}\n```", OULU)


def test_alone_in_a_fence_without_a_language():
    assert_read(f"```\n{ONE}\n```\n", OULU)


def test_in_a_fence_amid_prose_it_is_an_example():
    assert_untouched(f"You would send this:\n```json\n{ONE}\n```\nto the server.")


def test_the_tool_calls_shape():
    assert_read(
        '{"tool_calls": [{"id": "call_1", "type": "function", "function": '
        '{"name": "get_weather", "arguments": "{\\"city\\": \\"Oulu\\"}"}}]}',
        OULU,
    )


def test_the_function_shape():
    assert_read(
        '{"type": "function", "function": '
        '{"name": "get_weather", "arguments": {"city": "Oulu"}}}',
        OULU,
    )


def test_the_arguments_before_the_name():
    assert_read('{"arguments": {"city": "Oulu"}, "name": "get_weather"}', OULU)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "get_reindeer", "arguments": {"city": "Oulu"}}',
        '{"name": "get_weather", "arguments": {"town": "Oulu"}}',
        '{"name": "get_weather", "arguments": {"city": ["Oulu"]}}',
        '{"name": "get_weather", "temperature": -12}',
        '{"title": "get_weather", "arguments": {"city": "Oulu"}}',
        '{"examples": [{"name": "get_weather", "arguments": {"city": "Oulu"}}]}',
    ],
)
def test_json_that_is_no_call(text):
    assert_untouched(text)


def test_cut():
    assert_read(ONE[:45], CUT, truncated=True)
