"""What the agent does about a message."""

import base64

import pytest

from demo.acts import Call, OwnCall, Picture, Say, Think
from demo.leaks import SYNTAXES, leak, rotated_syntax
from demo.pictures import draw
from tests.unit.demo.conftest import MAIL, WEATHER


def said(acts) -> str:
    return "".join(act.text for act in acts if isinstance(act, Say))


def calls(acts) -> list[Call]:
    return [act for act in acts if isinstance(act, Call)]


def own_calls(acts) -> list[OwnCall]:
    return [act for act in acts if isinstance(act, OwnCall)]


def answered(question: str, *results: tuple[str, str]) -> list[dict]:
    """A conversation in which these calls have been answered, one a round."""
    messages: list[dict] = [{"role": "user", "content": question}]
    for number, (name, content) in enumerate(results):
        call = {"id": f"c{number}", "type": "function", "function": {"name": name}}
        messages.append({"role": "assistant", "tool_calls": [call]})
        messages.append(
            {"role": "tool", "tool_call_id": f"c{number}", "content": content}
        )
    return messages


def test_thinks_calculates_and_answers(ask) -> None:
    thought, call, answer = ask("What is 17 × (23 + 4)?")
    assert isinstance(thought, Think)
    assert call == OwnCall("calculator", {"expression": "17 * (23 + 4)"}, "459")
    assert "**459**" in answer.text


def test_a_failed_sum_is_a_failed_call(ask) -> None:
    acts = ask("what is 1/0")
    assert own_calls(acts)[0].failed
    assert "divided by zero" in said(acts)


def test_two_questions_two_tools(ask) -> None:
    acts = ask("What is 2 + 2 and what time is it in Tokyo?")
    assert [call.name for call in own_calls(acts)] == ["calculator", "clock"]
    assert "**4**" in said(acts)
    assert "03:30" in said(acts)


def test_cites_the_docs_it_found(ask) -> None:
    acts = ask("How do I install it?")
    answer = acts[-1]
    source = answer.citations[0]
    assert source.url == "http://agent/README.md#quick-start"
    assert answer.text[source.start : source.end] == f"[Quick start]({source.url})"
    assert "run one command" in answer.text


def test_says_when_the_docs_have_nothing(ask) -> None:
    assert "could not find" in said(ask("zebra"))


@pytest.mark.parametrize(
    ("greeting", "word"),
    [
        ("Hello!", "demo agent"),
        ("hallo", "Demo-Agent"),
        ("¡Hola!", "agente"),
        ("Bonjour", "agent de démonstration"),
        ("你好", "演示智能体"),
        ("Was kannst du?", "Demo-Agent"),
        ("help", "demo agent"),
        ("", "demo agent"),
    ],
)
def test_introduces_itself(ask, greeting: str, word: str) -> None:
    assert word in said(ask(greeting))


def test_a_greeting_before_a_question_does_not_hide_it(ask) -> None:
    assert "**4**" in said(ask("hi, what is 2 + 2?"))


def test_remembers_the_conversation(ask) -> None:
    messages = [
        {"role": "user", "content": "My cat is Minka"},
        {"role": "assistant", "content": "Nice"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "Hello"},
    ]
    first = [*messages, {"role": "user", "content": "What did I say first?"}]
    assert "> My cat is Minka" in said(ask(first))
    before = [*messages, {"role": "user", "content": "what did I just say?"}]
    assert "> hello" in said(ask(before))
    assert "first message" in said(ask("What did I say first?"))


def test_draws(ask) -> None:
    acts = ask("Draw a sunrise!")
    assert acts[-1] == Picture(draw("a sunrise"))


def test_says_what_it_received(ask) -> None:

    url = "data:image/png;base64," + base64.b64encode(draw("x")).decode()
    image = {"type": "image_url", "image_url": {"url": url}}
    parts = [{"type": "text", "text": "what is this"}, image]
    acts = ask([{"role": "user", "content": parts}])
    assert said(acts) == "I see 1 image: 320x200 PNG."
    parts = [{"type": "text", "text": "2 + 2"}, image]
    acts = ask([{"role": "user", "content": parts}])
    assert said(acts).startswith("I see 1 image: 320x200 PNG.\n\n")
    assert "**4**" in said(acts)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("use get_weather in Paris", {"city": "Paris"}),
        ("What's the weather in Berlin?", {"city": "Berlin"}),
        ('get_weather city="New York" days=3', {"city": "New York", "days": 3}),
        ('call get_weather {"city": "Oslo"}', {"city": "Oslo"}),
        ("use get_weather for Rome, please", {"city": "Rome"}),
    ],
)
def test_calls_an_offered_tool(ask, message: str, arguments: dict) -> None:
    assert calls(ask(message, [MAIL, WEATHER])) == [Call("get_weather", arguments)]


@pytest.mark.parametrize(
    "message", ["How is the weather made?", "What time is it in Tokyo?", "hello"]
)
def test_leaves_offered_tools_alone(ask, message: str) -> None:
    assert calls(ask(message, [WEATHER, MAIL])) == []


def test_goes_through_several_rounds(ask) -> None:
    message = (
        "use get_weather in Paris and get_weather in Rome then use send_mail to Ann"
    )
    tools = [WEATHER, MAIL]
    paris, rome = Call("get_weather", {"city": "Paris"}), Call(
        "get_weather", {"city": "Rome"}
    )
    assert calls(ask(message, tools)) == [paris, rome]
    one = answered(message, ("get_weather", "sunny"))
    assert calls(ask(one, tools)) == [rome]
    two = answered(message, ("get_weather", "sunny"), ("get_weather", "rain"))
    mail = Call("send_mail", {"to": "Ann", "urgent": True})
    assert calls(ask(two, tools)) == [mail]
    three = [*two, *answered("", ("send_mail", '{"sent": true}'))[1:]]
    acts = ask(three, tools)
    assert calls(acts) == []
    for part in ("> sunny", "> rain", '```json\n{"sent": true}'):
        assert part in said(acts)


def test_can_forget_the_arguments_once(ask) -> None:
    message = "use get_weather without arguments in Paris"
    assert calls(ask(message, [WEATHER])) == [Call("get_weather", {})]
    again = answered(message, ("get_weather", '{"error": "city is missing"}'))
    assert calls(ask(again, [WEATHER])) == [Call("get_weather", {"city": "Paris"})]


def test_unknown_tools(ask) -> None:
    acts = ask("use the unknown tool frobnicate", [WEATHER])
    assert calls(acts) == [Call("frobnicate", {})]
    assert "`get_weather`" in said(ask("use foo_bar now", [WEATHER]))
    assert "No tools were offered" in said(ask("use get_weather in Paris"))


def test_never_repeats_an_own_call_which_the_caller_answered(ask) -> None:
    acts = ask(answered("what is 2 + 2", ("calculator", "Tool not found")))
    assert own_calls(acts) == []
    assert "**4**" in said(acts)


def test_old_results_do_not_count(ask) -> None:
    messages = [
        *answered("use get_weather in Paris", ("get_weather", "sunny")),
        {"role": "assistant", "content": "sunny"},
        {"role": "user", "content": "use get_weather in Rome"},
    ]
    assert calls(ask(messages, [WEATHER])) == [Call("get_weather", {"city": "Rome"})]


LEAKS = {
    "hermes": '<tool_call>\n{"name": "f", "arguments": {"a": "x", "n": 1}}\n</tool_call>',
    "qwen3_coder": "<tool_call>\n<function=f>\n<parameter=a>\nx\n</parameter>\n"
    "<parameter=n>\n1\n</parameter>\n</function>\n</tool_call>",
    "glm4": "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>x</arg_value>\n"
    "<arg_key>n</arg_key>\n<arg_value>1</arg_value>\n</tool_call>",
    "mistral": '[TOOL_CALLS][{"name": "f", "arguments": {"a": "x", "n": 1}}]',
    "mistral_args": '[TOOL_CALLS]f[ARGS]{"a": "x", "n": 1}',
    "llama3_json": '{"name": "f", "parameters": {"a": "x", "n": 1}}',
    "pythonic": "[f(a='x', n=1)]",
    "deepseek_v3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n"
    '```json\n{"a": "x", "n": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    "kimi_k2": "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0"
    '<|tool_call_argument_begin|>{"a": "x", "n": 1}<|tool_call_end|>'
    "<|tool_calls_section_end|>",
    "harmony": "<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
    '{"a": "x", "n": 1}<|call|>',
    "minimax_m2": '<minimax:tool_call>\n<invoke name="f">\n<parameter name="a">x'
    '</parameter>\n<parameter name="n">1</parameter>\n</invoke>\n</minimax:tool_call>',
}


@pytest.mark.parametrize("syntax", LEAKS)
def test_writes_a_leak(syntax: str) -> None:
    call = Call("f", {"a": "x", "n": 1})
    assert leak([call], f"use f as {syntax}") == (LEAKS[syntax], syntax)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_syntax_holds_every_call(syntax: str) -> None:
    text, _ = leak([Call("f", {"a": "x"}), Call("g", {"b": "y"})], f"as {syntax}")
    positions = [text.index(part) for part in ("f", "x", "g", "y")]
    assert all(position >= 0 for position in positions)


def test_the_message_picks_the_syntax() -> None:
    messages = [f"use get_weather in city {number}" for number in range(200)]
    assert {rotated_syntax(message) for message in messages} == set(SYNTAXES)
    assert rotated_syntax(messages[0]) == rotated_syntax(messages[0])


def test_the_leaky_model_leaks_and_then_answers(ask) -> None:
    message = "use get_weather in Paris as hermes"
    acts = ask(message, [WEATHER], leaky=True)
    assert calls(acts) == []
    before, _, leaked = said(acts).partition("\n\n")
    assert before == "I will ask `get_weather` for that."
    assert leaked.startswith("<tool_call>\n{")
    acts = ask(answered(message, ("get_weather", "sunny")), [WEATHER], leaky=True)
    assert said(acts) == "**get_weather** answered:\n\n> sunny"


def test_the_leaky_model_without_tools(ask) -> None:
    assert "nothing to leak" in said(ask("hello", leaky=True))


def test_explains_with_an_innocent_example(ask) -> None:
    text = said(ask("Explain tool calls", [WEATHER], leaky=True))
    fence = text.split("```")[1]
    assert "<tool_call>" in fence
    assert "<tool_call>\n" not in text.replace(fence, "")
