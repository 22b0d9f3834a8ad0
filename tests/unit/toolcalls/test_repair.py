"""Arguments that need mending: what is repaired, in which order, and what is not."""

import pytest

from tests.unit.toolcalls.support import assert_read, assert_untouched, call, tool


def hermes(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


def searching(arguments: str) -> str:
    return hermes(f'{{"name": "search", "arguments": {arguments}}}')


@pytest.mark.parametrize(
    "text",
    [
        "a &lt; b &amp;&amp; c",
        'it\\u2019s \\"quoted\\"',
        "{'single': None}",
        "trailing, ]",
        "\\\\n",
    ],
)
def test_what_parses_and_fits_is_taken_as_it_is(text):
    value = {
        'it\\u2019s \\"quoted\\"': 'it’s "quoted"',
        "\\\\n": "\\n",
    }.get(text, text)
    assert_read(searching(f'{{"query": "{text}"}}'), call("search", query=value))


def test_html_entities():
    text = '{"name": "search", "arguments": {"query": "x", "limit": 2}}'
    assert_read(hermes(text.replace('"', "&quot;")), call("search", query="x", limit=2))


@pytest.mark.parametrize(
    "arguments",
    [
        '{"query": "x", "tags": ["a", "b",], }',
        '{"query": "x", "tags": ["a", "b"],\n}',
    ],
)
def test_trailing_commas(arguments):
    assert_read(searching(arguments), call("search", query="x", tags=["a", "b"]))


def test_single_quotes_and_python_literals():
    assert_read(
        hermes("{'name': 'set_light', 'arguments': {'on': True, 'room': None}}"),
        call("set_light", on=True, room=None),
    )


def test_an_apostrophe_within_single_quotes():
    assert_read(
        hermes("{'name': 'search', 'arguments': {'query': \"what's new\"}}"),
        call("search", query="what's new"),
    )


def test_double_encoded_arguments():
    assert_read(
        searching('"{\\"query\\": \\"a \\\\\\"b\\\\\\" c\\", \\"limit\\": 1}"'),
        call("search", query='a "b" c', limit=1),
    )


def test_a_double_encoded_object_in_an_argument():
    assert_read(
        searching('{"query": "x", "filters": "{\\"lang\\": \\"fi\\"}"}'),
        call("search", query="x", filters={"lang": "fi"}),
    )


def test_raw_newlines_and_tabs_in_a_string():
    assert_read(
        hermes(
            '{"name": "python", "arguments": {"code": "for x in y:\n\tprint(x)\n"}}'
        ),
        call("python", code="for x in y:\n\tprint(x)\n"),
    )


@pytest.mark.parametrize("missing", ["}", "}}", "}}\n</tool_call>", "}\n</tool_call>"])
def test_missing_closers_at_the_end(missing):
    text = searching('{"query": "x"}')
    if "tool_call" not in missing:
        text = text.replace("}}\n", "}}"[len(missing) :] + "\n")
    else:
        text = text.removesuffix(missing)
    assert_read(text, call("search", query="x"))


def test_one_closing_brace_too_many():
    assert_read(
        hermes('{"name": "search", "arguments": {"query": "x"}}}'),
        call("search", query="x"),
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "{'query': open('/etc/hostname').read()}",
        '{"query": lambda: 1}',
        "{query}",
        "{{query}}",
        "not json at all",
        '["x"]',
        "3",
    ],
)
def test_what_cannot_be_mended_is_shown(arguments):
    assert_untouched(searching(arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        '{"query": "x", "limit": "many"}',
        '{"query": "x", "tags": "a"}',
        '{"query": {"text": "x"}}',
        '{"limit": 3}',
        '{"query": null}',
    ],
)
def test_what_does_not_fit_the_schema_is_shown(arguments):
    assert_untouched(searching(arguments))


@pytest.mark.parametrize(
    ("arguments", "fitting"),
    [
        ('{"query": 42}', {"query": "42"}),
        ('{"query": "x", "limit": "3"}', {"query": "x", "limit": 3}),
        ('{"query": "x", "tags": "[\\"a\\"]"}', {"query": "x", "tags": ["a"]}),
    ],
)
def test_values_are_typed_by_the_schema(arguments, fitting):
    assert_read(searching(arguments), call("search", **fitting))


def test_numbers_keep_their_precision():
    assert_read(
        hermes('{"name": "add", "arguments": {"a": 9007199254740993, "b": 0.1}}'),
        call("add", a=9007199254740993, b=0.1),
    )


def test_deep_nesting_is_shown_or_called_but_never_raises():
    deep = "[" * 3000 + "]" * 3000
    assert_untouched(searching(f'{{"query": "x", "tags": {deep}}}'))


@pytest.mark.parametrize("key", ["arguments", "parameters", "properties", "input"])
@pytest.mark.parametrize("value", ['{"query": "x"}', "{'query': 'x'}"])
def test_arguments_in_an_envelope(key, value):
    tags = f"<function=search><parameter={key}>{value}</parameter></function>"
    assert_read(f"<tool_call>{tags}</tool_call>", call("search", query="x"))


def test_an_envelope_in_json():
    assert_read(
        searching('{"arguments": {"query": "x", "limit": 2}}'),
        call("search", query="x", limit=2),
    )


def test_a_parameter_is_no_envelope():
    takes = tool("send", input="object", to="string")
    assert_read(
        hermes('{"name": "send", "arguments": {"input": {"to": "ada"}}}'),
        call("send", input={"to": "ada"}),
        tools=[takes],
    )
    assert_read(
        hermes('{"name": "send", "arguments": {"args": {"about": "it"}}}'),
        call("send", args={"about": "it"}),
        tools=[takes],
    )


def test_types_by_their_names_in_programs():
    drive = tool("drive", speed="float", gear="int", lights="bool", to="str", by="list")
    values = {"speed": "3.5", "gear": "2", "lights": "True", "to": "7", "by": '["a"]'}
    tags = "".join(f"<parameter={k}>{v}</parameter>" for k, v in values.items())
    assert_read(
        f"<tool_call><function=drive>{tags}</function></tool_call>",
        call("drive", speed=3.5, gear=2, lights=True, to="7", by=["a"]),
        tools=[drive],
    )
