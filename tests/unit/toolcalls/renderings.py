"""How each model family writes tool calls, as functions of the calls.

A rendering is well-formed: it is what the family's chat template trains the model to
write. `carries` says which arguments the format can hold without ambiguity; a raw
value, for instance, cannot contain its own closing tag.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.unit.toolcalls.support import Call

Calls = Sequence[Call]
Writer = Callable[[Calls], str]


@dataclass(frozen=True)
class Rendering:
    """One family's way to write calls.

    line_ends: how many ends of a string may be line breaks, where models put values on
    lines of their own though the format does not ask for it; forbidden: what a string
    must not contain, the format having no escape for it; nested: objects can be
    arguments; several: more than one call fits into one message; alone: amid prose it
    would be an example; last: prose behind it would make it one; thoughts: the tags
    around the family's reasoning.
    """

    name: str
    write: Writer
    line_ends: int = 2
    forbidden: tuple[str, ...] = ()
    nested: bool = True
    several: bool = True
    alone: bool = False
    last: bool = False
    thoughts: tuple[str, str] = ("<think>", "</think>")

    def carries(self, arguments: Mapping[str, Any]) -> bool:
        return all(self._carries_value(value) for value in arguments.values())

    def _carries_value(self, value: Any) -> bool:
        if isinstance(value, dict):
            return self.nested and all(map(self._carries_value, value.values()))
        if isinstance(value, list):
            return all(map(self._carries_value, value))
        if not isinstance(value, str):
            return True
        if any(mark in value for mark in self.forbidden):
            return False
        lines = value.startswith("\n") + value.endswith("\n")
        return lines <= self.line_ends


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def bare(value: Any) -> str:
    """A value as templates put it between tags: strings as they are."""
    return value if isinstance(value, str) else dump(value)


def named(call: Call, name: str = "name", arguments: str = "arguments") -> str:
    return dump({name: call.name, arguments: dict(call.arguments)})


def listed(calls: Calls, name: str = "name", arguments: str = "arguments") -> str:
    return "[" + ", ".join(named(call, name, arguments) for call in calls) + "]"


# JSON between tags


def json_each(before: str, after: str, between: str = "", **keys: str) -> Writer:
    """One wrapper around each call's JSON object."""
    return lambda calls: between.join(
        f"{before}{named(call, **keys)}{after}" for call in calls
    )


def json_list(before: str, after: str, **keys: str) -> Writer:
    """One wrapper around a JSON list of all calls."""
    return lambda calls: f"{before}{listed(calls, **keys)}{after}"


def name_then_json(
    before: str, middle: str, after: str, opening: str = "", closing: str = ""
) -> Writer:
    """The name as text, then its arguments as JSON; `#` becomes the call's index."""

    def one(index: int, call: Call) -> str:
        text = f"{before}{call.name}{middle.replace('#', str(index))}"
        return text + dump(dict(call.arguments)) + after

    def write(calls: Calls) -> str:
        body = "".join(one(index, call) for index, call in enumerate(calls))
        return f"{opening}{body}{closing}"

    return write


def apertus(calls: Calls) -> str:
    items = ", ".join(dump({call.name: dict(call.arguments)}) for call in calls)
    return f"<|tools_prefix|>[{items}]<|tools_suffix|>"


def command_items(calls: Calls, with_id: bool) -> str:
    items = [
        ({"tool_call_id": str(index)} if with_id else {})
        | {"tool_name": call.name, "parameters": dict(call.arguments)}
        for index, call in enumerate(calls)
    ]
    return json.dumps(items, ensure_ascii=False, indent=4)


def command_r7b(calls: Calls) -> str:
    return f"<|START_ACTION|>{command_items(calls, True)}<|END_ACTION|>"


def command_r_plus(calls: Calls) -> str:
    return f"Action:\n```json\n{command_items(calls, False)}\n```"


def harmony(calls: Calls) -> str:
    return "<|start|>assistant".join(
        f"<|channel|>commentary to=functions.{call.name} <|constrain|>json"
        f"<|message|>{dump(dict(call.arguments))}<|call|>"
        for call in calls
    )


def harmony_stripped(calls: Calls) -> str:
    return "".join(
        f"assistantcommentary to=functions.{call.name} json"
        f"{dump(dict(call.arguments))}"
        for call in calls
    )


def inkling(calls: Calls) -> str:
    return "".join(
        f"<|message_model|>{call.name}<|content_invoke_tool_json|>"
        f"{named(call, arguments='args')}<|end_message|>"
        for call in calls
    )


def fenced_json(calls: Calls) -> str:
    body = named(calls[0]) if len(calls) == 1 else listed(calls)
    return f"```json\n{body}\n```"


def generic_json(calls: Calls) -> str:
    return named(calls[0]) if len(calls) == 1 else listed(calls)


def openai_shape(calls: Calls) -> str:
    """The request's own shape, arguments double-encoded, as small models copy it."""
    items = [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": call.name, "arguments": dump(dict(call.arguments))},
        }
        for index, call in enumerate(calls)
    ]
    return dump({"tool_calls": items})


# XML parameters


def xml_parameters(
    invoke: str,
    parameter: str,
    after_parameter: str,
    after_invoke: str,
    opening: str = "",
    closing: str = "",
    each: bool = False,
) -> Writer:
    """Tags that carry the name, then one tag per parameter; `@` stands for a name."""

    def one(call: Call) -> str:
        body = "".join(
            parameter.replace("@", key) + bare(value) + after_parameter
            for key, value in call.arguments.items()
        )
        text = invoke.replace("@", call.name) + body + after_invoke
        return f"{opening}{text}{closing}" if each else text

    def write(calls: Calls) -> str:
        body = "".join(map(one, calls))
        return body if each else f"{opening}{body}{closing}"

    return write


def dsml(wrapper: str, gap: str = "") -> Writer:
    """DeepSeek's tags; an attribute says whether a value is a string or JSON."""
    bar = f"｜DSML｜{gap}"

    def parameter(key: str, value: Any) -> str:
        kind = "true" if isinstance(value, str) else "false"
        opener = f'<{bar}parameter name="{key}" string="{kind}">'
        return f"{opener}{bare(value)}</{bar}parameter>\n"

    def one(call: Call) -> str:
        body = "".join(parameter(key, v) for key, v in call.arguments.items())
        return f'<{bar}invoke name="{call.name}">\n{body}</{bar}invoke>\n'

    def write(calls: Calls) -> str:
        return f"<{bar}{wrapper}>\n{''.join(map(one, calls))}</{bar}{wrapper}>"

    return write


def muse(calls: Calls) -> str:
    tags = xml_parameters(
        '<atem:invoke name="@">\n',
        '<atem:parameter name="@">',
        "</atem:parameter>\n",
        "</atem:invoke>\n",
        "<atem:function_calls>\n",
        "</atem:function_calls>",
    )
    return "<|eom|><|start|>assistant ".join(
        f"to={call.name}<|message|>{tags([call])}" for call in calls
    )


def step3(calls: Calls) -> str:
    tags = xml_parameters(
        '<steptml:invoke name="@">',
        '<steptml:parameter name="@">',
        "</steptml:parameter>",
        "</steptml:invoke>",
    )
    body = "".join(
        "<｜tool_call_begin｜>function<｜tool_sep｜>"
        f"{tags([call])}<｜tool_call_end｜>\n"
        for call in calls
    )
    return f"<｜tool_calls_begin｜>\n{body}<｜tool_calls_end｜>"


def minimax_m3(calls: Calls) -> str:
    """Every tag behind a separator, every key a tag, list items as `item`."""
    bar = "]<]minimax[>["

    def tag(key: str, value: Any) -> str:
        if isinstance(value, dict):
            inner = "".join(tag(name, part) for name, part in value.items())
        elif isinstance(value, list):
            inner = "".join(tag("item", part) for part in value)
        else:
            inner = bare(value)
        return f"{bar}<{key}>{inner}{bar}</{key}>"

    invokes = "".join(
        f'{bar}<invoke name="{call.name}">'
        + "".join(tag(key, value) for key, value in call.arguments.items())
        + f"{bar}</invoke>"
        for call in calls
    )
    return f"{bar}<tool_call>{invokes}{bar}</tool_call>"


# arg_key and arg_value


def arg_pairs(
    before: str,
    after_name: str,
    after_tag: str,
    after: str,
    opening: str = "",
    closing: str = "",
    prefix: str = "",
) -> Writer:
    """The name as text, then a key tag and a value tag for each argument."""

    def pair(key: str, value: Any) -> str:
        return (
            f"<{prefix}arg_key>{key}</{prefix}arg_key>{after_tag}"
            f"<{prefix}arg_value>{bare(value)}</{prefix}arg_value>{after_tag}"
        )

    def one(call: Call) -> str:
        pairs = "".join(pair(key, value) for key, value in call.arguments.items())
        return f"{before}{call.name}{after_name}{pairs}{after}"

    def write(calls: Calls) -> str:
        return opening + after_tag.join(map(one, calls)) + closing

    return write


# Python


def python_call(call: Call) -> str:
    keywords = ", ".join(f"{key}={value!r}" for key, value in call.arguments.items())
    return f"{call.name}({keywords})"


def python_list(before: str = "", after: str = "") -> Writer:
    return lambda calls: f"{before}[{', '.join(map(python_call, calls))}]{after}"


def python_lines(before: str, after: str) -> Writer:
    return lambda calls: before + "\n".join(map(python_call, calls)) + after


# relaxed key:value, and typed arguments


def relaxed(before: str, quote: str, after: str) -> Writer:
    """Unquoted keys, strings between the family's own marks."""

    def text(value: Any) -> str:
        if isinstance(value, str):
            return f"{quote}{value}{quote}"
        if isinstance(value, list):
            return f"[{','.join(map(text, value))}]"
        if isinstance(value, dict):
            return f"{{{','.join(f'{key}:{text(v)}' for key, v in value.items())}}}"
        return dump(value)

    return lambda calls: "".join(
        f"{before}{call.name}{text(dict(call.arguments))}{after}" for call in calls
    )


def kimi_k3(calls: Calls) -> str:
    def kind(value: Any) -> str:
        kinds = {str: "string", bool: "boolean", dict: "object", list: "array"}
        return "null" if value is None else kinds.get(type(value), "number")

    def argument(key: str, value: Any) -> str:
        return (
            f'<|open|>argument key="{key}" type="{kind(value)}"<|sep|>'
            f"{bare(value)}<|close|>argument<|sep|>"
        )

    body = "".join(
        f'<|open|>call tool="{call.name}" index="{index}"<|sep|>'
        + "".join(argument(key, value) for key, value in call.arguments.items())
        + "<|close|>call<|sep|>"
        for index, call in enumerate(calls, 1)
    )
    return f"<|open|>tools<|sep|>{body}<|close|>tools<|sep|>"


def react(calls: Calls) -> str:
    return f"Action: {calls[0].name}\nAction Input: {dump(dict(calls[0].arguments))}\n"
