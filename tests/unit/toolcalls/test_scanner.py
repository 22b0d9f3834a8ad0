"""The scanner's promises: what flows at once, what is kept apart, what is left out."""

import json

import pytest

from shared.toolcalls.pieces import RecoveredCall, VisibleText
from shared.toolcalls.scanner import ToolCallScanner, recover
from tests.unit.toolcalls.support import (
    TOOLS,
    assert_read,
    assert_untouched,
    call,
    scan,
    scan_every_way,
    source,
    tool,
)

HERMES = (
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Kemi"}}\n</tool_call>'
)
QWEN = "<function=get_weather>\n<parameter=city>\nKemi\n</parameter>\n</function>"
KIMI = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
    '<|tool_call_argument_begin|>{"city": "Kemi"}<|tool_call_end|>'
    "<|tool_calls_section_end|>"
)
LING = (
    "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Kemi</arg_value>\n"
    "</tool_call>"
)
APERTUS = '<|tools_prefix|>[{"get_weather": {"city": "Kemi"}}]<|tools_suffix|>'
KEMI = call("get_weather", city="Kemi")


def shown(pieces: list) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, VisibleText))


def test_prose_is_never_held():
    scanner = ToolCallScanner(TOOLS)
    words = [
        "The",
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "a",
        "dog,",
        "2",
        "times:",
    ]
    for word in words:
        assert shown(scanner.feed(word + " ")) == word + " "


def test_a_comparison_is_soon_released():
    scanner = ToolCallScanner(TOOLS)
    assert shown(scanner.feed("If a <") + scanner.feed(" b then")) == "If a < b then"


def test_code_in_a_fence_flows():
    scanner = ToolCallScanner(TOOLS)
    scanner.feed("Here is the program you wanted:\n\n```python\n")
    lines = "".join(f"value_{n} = table[{n}]\n" for n in range(50))
    assert len(shown(scanner.feed(lines))) > len(lines) - 40


def test_a_long_json_answer_flows():
    scanner = ToolCallScanner(TOOLS)
    answer = '{"temperatures": [' + ", ".join(map(str, range(400)))
    assert len(shown(scanner.feed(answer))) > 1000


def test_what_cannot_be_a_call_any_more_flows():
    scanner = ToolCallScanner(TOOLS)
    text = '<tool_call>\n{"name": "unheard_of", "arguments": {"x": "'
    assert shown(scanner.feed(text + "word " * 200))


def test_the_text_before_a_call_comes_out_before_the_call_is_whole():
    scanner = ToolCallScanner(TOOLS)
    assert shown(scanner.feed("I look.\n" + HERMES[:30])).strip() == "I look."


def test_a_call_comes_out_with_its_last_character():
    scanner = ToolCallScanner(TOOLS)
    pieces = scanner.feed(HERMES + "\nNow ")
    assert [piece.name for piece in pieces if isinstance(piece, RecoveredCall)] == [
        "get_weather"
    ]


def test_the_raw_text_of_a_call_is_the_text_it_replaces():
    (piece,) = [
        p for p in recover(f"Ok {HERMES} ok", TOOLS) if isinstance(p, RecoveredCall)
    ]
    assert piece.raw in HERMES
    assert '"city": "Kemi"' in piece.raw
    assert json.loads(piece.arguments) == {"city": "Kemi"}
    assert piece.family


def test_two_scanners_never_mix():
    one, other = ToolCallScanner(TOOLS), ToolCallScanner(TOOLS)
    text = {one: "", other: ""}
    calls = {one: 0, other: 0}
    for left, right in zip(HERMES, QWEN.ljust(len(HERMES)), strict=False):
        for scanner, character in ((one, left), (other, right)):
            for piece in scanner.feed(character):
                text[scanner] += source(piece)
                calls[scanner] += isinstance(piece, RecoveredCall)
    for scanner in (one, other):
        for piece in scanner.finish():
            text[scanner] += source(piece)
            calls[scanner] += isinstance(piece, RecoveredCall)
    assert calls == {one: 1, other: 1}
    assert text == {
        one: HERMES[: len(text[one])],
        other: QWEN.ljust(len(HERMES))[: len(text[other])],
    }


def test_nothing_in_nothing_out():
    scanner = ToolCallScanner(TOOLS)
    assert scanner.feed("") == []
    assert scanner.finish() == []
    assert recover("", TOOLS) == []


@pytest.mark.parametrize("text", [HERMES, QWEN, KIMI, LING, APERTUS])
def test_without_tools_everything_is_text(text):
    assert_untouched(text, tools=[])


def test_bare_specs_are_accepted():
    bare = [spec["function"] for spec in TOOLS]
    assert_read(HERMES, KEMI, tools=bare)


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}])
def test_a_tool_without_a_schema_takes_anything(parameters):
    spec = {"type": "function", "function": {"name": "get_weather"}}
    if parameters is not None:
        spec["function"]["parameters"] = parameters
    assert_read(HERMES, KEMI, tools=[spec])
    assert_read(QWEN, KEMI, tools=[spec])


def test_references_inside_a_schema():
    spec = tool("move", ["to"], to={"$ref": "#/$defs/place"})
    spec["function"]["parameters"]["$defs"] = {
        "place": {"type": "object", "properties": {"x": {"type": "integer"}}}
    }
    text = '<tool_call>\n{"name": "move", "arguments": {"to": {"x": %s}}}\n</tool_call>'
    assert_read(text % "1", call("move", to={"x": 1}), tools=[spec])
    assert_untouched(text % '"far"', tools=[spec])


def test_a_broken_schema_does_not_raise():
    spec = tool("odd", [], x={"type": "no such type"})
    text = '<tool_call>\n{"name": "odd", "arguments": {"x": 1}}\n</tool_call>'
    scan_every_way(text, [spec])


@pytest.mark.parametrize("family", ["apertus", "mistral", "kimi_k2", "longcat"])
def test_a_family_left_out_is_text(family):
    texts = {
        "apertus": APERTUS,
        "mistral": '[TOOL_CALLS]get_weather[ARGS]{"city": "Kemi"}',
        "kimi_k2": KIMI,
        "longcat": HERMES.replace("tool_call", "longcat_tool_call"),
    }
    assert_read(texts[family], KEMI)
    pieces = scan([texts[family]], TOOLS, leave_out=frozenset([family]))
    assert family not in [p.family for p in pieces if isinstance(p, RecoveredCall)]


@pytest.mark.parametrize(
    "text", [HERMES, f"<tool_call>\n{QWEN}\n</tool_call>", KIMI, LING]
)
def test_in_reasoning_these_families_call(text):
    assert_read(f"I think so.\n{text}", "I think so.", KEMI, reasoning=True)


@pytest.mark.parametrize(
    "text",
    [
        'I could write {"name": "get_weather", "arguments": {"city": "Kemi"}} here.',
        "Perhaps [get_weather(city='Kemi')] would do.",
        'Or get_weather{"city": "Kemi"} instead.',
        'Action: get_weather\nAction Input: {"city": "Kemi"}',
    ],
)
def test_in_reasoning_others_only_talk(text):
    assert_untouched(text, reasoning=True)


def test_many_calls_in_one_message():
    text = "\n".join(HERMES.replace("Kemi", f"Kemi {n}") for n in range(40))
    assert_read(text, *[call("get_weather", city=f"Kemi {n}") for n in range(40)])


def test_a_long_argument():
    code = "x = '<' + \"{}\"  # `\n" * 3000
    body = json.dumps({"name": "python", "arguments": {"code": code}})
    text = f"<tool_call>\n{body}\n</tool_call>"
    (piece,) = [p for p in scan(text, TOOLS) if isinstance(p, RecoveredCall)]
    assert json.loads(piece.arguments) == {"code": code}


def test_several_families_in_one_message():
    assert_read(
        f"One.\n{HERMES}\nTwo.\n{QWEN}\n</tool_call>\nThree.\n{KIMI}\nFour.\n{APERTUS}",
        "One.",
        KEMI,
        "Two.",
        KEMI,
        "Three.",
        KEMI,
        "Four.",
        KEMI,
    )


@pytest.mark.parametrize(
    "opener",
    [
        "<tool_call>",
        ">>>search\n",
        "to=search<|message|>",
        "[TOOL_CALLS]search",
        "assistantcommentary to=functions.search json",
        '{"name": "search", "arguments": ',
        "<function=search>\n<parameter=query>\n",
        "[search(query=[",
        "`",
        "```\n",
        "<",
        "[{",
    ],
)
def test_openers_without_end_never_raise(opener):
    text = opener * 3000
    assert "".join(map(source, scan([text], TOOLS))) == text
