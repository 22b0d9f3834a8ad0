"""Write tool calls as the text which models leak when a server misses the call.

Each syntax is the one of a model family's chat template; the names are those of the
tool-call parsers which inference servers have for them.
"""

import json
import re
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from demo.acts import Call

Writer = Callable[[Sequence[Call]], str]


def leak(calls: Sequence[Call], message: str) -> tuple[str, str]:
    """The calls as leaked text, and the name of the syntax.

    The message names it ("as hermes"); otherwise it depends on the message alone.
    """
    syntax = asked_syntax(message) or rotated_syntax(message)
    return SYNTAXES[syntax](calls), syntax


def asked_syntax(message: str) -> str | None:
    """The syntax a message names with "as NAME", or None."""
    for name in re.findall(r"\bas (\w+)", message.lower()):
        if name in SYNTAXES:
            return name
    return None


def rotated_syntax(message: str) -> str:
    """A syntax chosen by the text of the message."""
    names = list(SYNTAXES)
    return names[zlib.crc32(message.encode()) % len(names)]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _raw(value: Any) -> str:
    """A value between XML-like tags: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else _json(value)


def _objects(
    calls: Sequence[Call], *, name: str = "name", arguments: str = "arguments"
) -> list[dict[str, Any]]:
    return [{name: call.name, arguments: call.arguments} for call in calls]


def _wrapped(opening: str, closing: str, calls: Sequence[Call]) -> str:
    """One pair of markers around every call."""
    return "\n".join(f"{opening}{_json(item)}{closing}" for item in _objects(calls))


def _listed(opening: str, closing: str, calls: Sequence[Call]) -> str:
    """One pair of markers around a JSON list of all calls."""
    return f"{opening}{_json(_objects(calls))}{closing}"


def _llama3_json(calls: Sequence[Call]) -> str:
    return "; ".join(_json(item) for item in _objects(calls, arguments="parameters"))


def _command_r_plus(calls: Sequence[Call]) -> str:
    items = _objects(calls, name="tool_name", arguments="parameters")
    return f"Action:\n```json\n{json.dumps(items, indent=4, ensure_ascii=False)}\n```"


def _functions(calls: Sequence[Call]) -> list[str]:
    """The blocks of Qwen3-Coder: one tag per function, one per parameter."""
    blocks = []
    for call in calls:
        parameters = "".join(
            f"<parameter={key}>\n{_raw(value)}\n</parameter>\n"
            for key, value in call.arguments.items()
        )
        blocks.append(f"<function={call.name}>\n{parameters}</function>")
    return blocks


def _qwen3_coder(calls: Sequence[Call]) -> str:
    return "\n".join(f"<tool_call>\n{b}\n</tool_call>" for b in _functions(calls))


def _qwen3_coder_bare(calls: Sequence[Call]) -> str:
    # What is seen most: the opening marker is left out, the closing one is not.
    return "\n".join(f"{block}\n</tool_call>" for block in _functions(calls))


def _seed_oss(calls: Sequence[Call]) -> str:
    blocks = _functions(calls)
    return "\n".join(f"<seed:tool_call>\n{b}\n</seed:tool_call>" for b in blocks)


def _glm4(calls: Sequence[Call]) -> str:
    blocks = []
    for call in calls:
        pairs = "".join(
            f"<arg_key>{key}</arg_key>\n<arg_value>{_raw(value)}</arg_value>\n"
            for key, value in call.arguments.items()
        )
        blocks.append(f"<tool_call>{call.name}\n{pairs}</tool_call>")
    return "\n".join(blocks)


def _invokes(opening: str, closing: str, calls: Sequence[Call]) -> str:
    blocks = []
    for call in calls:
        parameters = "".join(
            f'<parameter name="{key}">{_raw(value)}</parameter>\n'
            for key, value in call.arguments.items()
        )
        blocks.append(f'<invoke name="{call.name}">\n{parameters}</invoke>')
    return "\n".join([opening, *blocks, closing])


def _mistral_args(calls: Sequence[Call]) -> str:
    return "".join(f"[TOOL_CALLS]{c.name}[ARGS]{_json(c.arguments)}" for c in calls)


def _python_call(call: Call) -> str:
    arguments = ", ".join(f"{key}={value!r}" for key, value in call.arguments.items())
    return f"{call.name}({arguments})"


def _python(opening: str, closing: str, between: str, calls: Sequence[Call]) -> str:
    return opening + between.join(_python_call(call) for call in calls) + closing


def _deepseek_v3(calls: Sequence[Call]) -> str:
    blocks = "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{call.name}\n"
        f"```json\n{_json(call.arguments)}\n```<｜tool▁call▁end｜>"
        for call in calls
    )
    return f"<｜tool▁calls▁begin｜>{blocks}<｜tool▁calls▁end｜>"


def _deepseek_v31(calls: Sequence[Call]) -> str:
    blocks = "".join(
        f"<｜tool▁call▁begin｜>{call.name}<｜tool▁sep｜>{_json(call.arguments)}"
        "<｜tool▁call▁end｜>"
        for call in calls
    )
    return f"<｜tool▁calls▁begin｜>{blocks}<｜tool▁calls▁end｜>"


def _kimi_k2(calls: Sequence[Call]) -> str:
    blocks = "".join(
        f"<|tool_call_begin|>functions.{call.name}:{index}"
        f"<|tool_call_argument_begin|>{_json(call.arguments)}<|tool_call_end|>"
        for index, call in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{blocks}<|tool_calls_section_end|>"


def _harmony(calls: Sequence[Call]) -> str:
    return "<|start|>assistant".join(
        f"<|channel|>commentary to=functions.{call.name} <|constrain|>json"
        f"<|message|>{_json(call.arguments)}<|call|>"
        for call in calls
    )


SYNTAXES: dict[str, Writer] = {
    "hermes": partial(_wrapped, "<tool_call>\n", "\n</tool_call>"),
    "qwen3_coder": _qwen3_coder,
    "qwen3_coder_bare": _qwen3_coder_bare,
    "seed_oss": _seed_oss,
    "glm4": _glm4,
    "mistral": partial(_listed, "[TOOL_CALLS]", ""),
    "mistral_args": _mistral_args,
    "llama3_json": _llama3_json,
    "pythonic": partial(_python, "[", "]", ", "),
    "lfm2": partial(_python, "<|tool_call_start|>[", "]<|tool_call_end|>", ", "),
    "olmo3": partial(_python, "<function_calls>\n", "\n</function_calls>", "\n"),
    "tool_code": partial(_python, "```tool_code\n", "\n```", "\n"),
    "deepseek_v3": _deepseek_v3,
    "deepseek_v31": _deepseek_v31,
    "kimi_k2": _kimi_k2,
    "harmony": _harmony,
    "minimax_m2": partial(_invokes, "<minimax:tool_call>", "</minimax:tool_call>"),
    "anthropic": partial(_invokes, "<function_calls>", "</function_calls>"),
    "command_r_plus": _command_r_plus,
    "granite": partial(_listed, "<|tool_call|>", ""),
    "phi4_mini": partial(_listed, "functools", ""),
    "nemotron": partial(_listed, "<TOOLCALL>", "</TOOLCALL>"),
}
