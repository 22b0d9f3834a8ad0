"""The families: how each opens and closes a call, and what stands between.

The grammar reads `opener* body closer*` for all of them, so a family is one row here
and the wrappers may be combined as wild models do. A new family needs a new body kind
only when none of the existing machines reads its body. The formats were read from
the parsers and tests of vLLM, SGLang, llama.cpp and Ollama, and from model cards.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from shared.toolcalls.window import Marks

# json: one object that names the tool     named: NAME then a JSON object
# tags: NAME in a tag, parameters in tags  pairs: NAME then <arg_key>/<arg_value>
# python: NAME(k=v)                        relaxed: call:NAME{k:v}
BodyKind = Literal["json", "named", "tags", "pairs", "python", "relaxed"]

# Where an opener may start a call. any: the marker is unmistakable; stand: at the
# beginning of a line or sentence; line: of a line; start: of the message, which must
# be nothing but the call; inside: only behind another opener.
Place = Literal["any", "stand", "line", "start", "inside"]


@dataclass(frozen=True, slots=True)
class LeakFamily:
    """One row: a family, its usual body, and the literal markers around it."""

    name: str
    body: BodyKind
    opens: tuple[str, ...]
    closes: tuple[str, ...] = ()
    thoughts: bool = False  # the family calls tools inside its thoughts, too
    place: Place = "any"


def _deepseek(*words: str) -> tuple[str, ...]:
    """A DeepSeek marker in its spellings: bars full-width or ASCII, gaps various."""
    return tuple(
        f"<{bar}{gap.join(words)}{bar}>"
        for bar in "｜|"
        for gap in ("▁", " ", "_", "\\_")
    )


def _plamo(*words: str) -> tuple[str, ...]:
    return tuple(f"<|plamo:{word}:plamo|>" for word in words)


_DS_OPEN = (
    _deepseek("tool", "calls", "begin")
    + _deepseek("tool", "call", "begin")
    + _deepseek("tool", "calls")
)
_DS_CLOSE = _deepseek("tool", "calls", "end") + _deepseek("tool", "call", "end")
_DS_SEP = _deepseek("tool", "sep")
_TYPED = tuple("function" + sep for sep in _DS_SEP)
DSML_BARS = ("｜DSML｜", "|DSML|", "｜DSML｜ ", "|DSML| ")
DSML_WRAPS = ("function_calls", "tool_calls", "calls")
_DSML_TAGS = tuple(bar + wrap for bar in DSML_BARS for wrap in DSML_WRAPS)
_M3 = "]<]minimax[>["
_HARMONY = (
    "<|channel|>commentary",
    "<|channel|>analysis",
    "<|start|>assistant",
    "<|end|><|start|>assistant",
)
_STRIPPED = ("assistantcommentary to=", "assistantanalysis to=", "commentary to=")

# Tags that small models make up; they say no more than bare JSON does.
_PLAIN_TAGS = ("tool", "json", "JSON", "xml", "response")
INNER_OPENERS = frozenset(
    {"[", "```", "```json", "print("} | {f"<{tag}>" for tag in _PLAIN_TAGS}
)

FAMILIES: tuple[LeakFamily, ...] = (
    LeakFamily("hermes", "json", ("<tool_call>",), ("</tool_call>",), thoughts=True),
    LeakFamily("hermes", "json", ("<tools>",), ("</tools>",)),
    LeakFamily("qwen3_coder", "tags", ("<tool_call>",), thoughts=True),
    LeakFamily("glm4", "pairs", ("<tool_call>",), thoughts=True),
    LeakFamily("ling3", "pairs", ("<tool_call>",), ("<|role_end|>",), thoughts=True),
    LeakFamily("poolside", "pairs", ("<tool_call>",)),
    LeakFamily("spark25", "pairs", ("<tool_call>",)),
    LeakFamily("ernie45", "json", ("<tool_call>",)),
    LeakFamily("granite", "json", ("<|tool_call|>", "<tool_call>")),
    LeakFamily("phi4_mini", "json", ("<|tool_call|>",), ("<|/tool_call|>",)),
    LeakFamily("phi4_mini", "json", ("functools[", "functools ["), place="stand"),
    LeakFamily("firefunction", "json", ("functools[", "functools ["), place="stand"),
    LeakFamily("granite_20b_fc", "json", ("<function_call>",), ("</function_call>",)),
    LeakFamily("apertus", "json", ("<|tools_prefix|>",), ("<|tools_suffix|>",)),
    LeakFamily("apriel", "json", ("<tool_calls>",), ("</tool_calls>",)),
    LeakFamily("jamba", "json", ("<tool_calls>",)),
    LeakFamily("hunyuan", "json", ("<tool_calls>",)),
    LeakFamily("hy_v3", "pairs", ("<tool_calls>",)),
    LeakFamily(
        "hy_v3",
        "pairs",
        ("<tool_calls:opensource>", "<tool_call:opensource>"),
        (
            "</tool_call:opensource>",
            "</tool_calls:opensource>",
            "<end_of_tool_call:opensource>",
            "<end_of_tool_call>",
        ),
    ),
    LeakFamily("nemotron_toolcall", "json", ("<TOOLCALL>",), ("</TOOLCALL>",)),
    LeakFamily("longcat", "json", ("<longcat_tool_call>",), ("</longcat_tool_call>",)),
    LeakFamily("longcat", "pairs", ("<longcat_tool_call>",)),
    LeakFamily("command_r7b", "json", ("<|START_ACTION|>",), ("<|END_ACTION|>",)),
    LeakFamily("command_r_plus", "json", ("Action:",), place="line"),
    LeakFamily("react", "named", ("Action:",), place="line"),
    LeakFamily(
        "gigachat3",
        "json",
        ("<|function_call|>", "<|message_sep|>", "function call<|role_sep|>"),
        ("<|message_sep|>",),
    ),
    LeakFamily(
        "inkling",
        "json",
        ("<|content_invoke_tool_json|>", "<|message_model|>"),
        ("<|end_message|>",),
    ),
    LeakFamily(
        "internlm2", "json", ("<|action_start|>", "<|plugin|>"), ("<|action_end|>",)
    ),
    LeakFamily("llama3_json", "json", ("<|python_tag|>",)),
    LeakFamily(
        "lmstudio_default", "json", ("[TOOL_REQUEST]",), ("[END_TOOL_REQUEST]",)
    ),
    LeakFamily("json_array", "json", ("[",), ("]",), place="stand"),
    LeakFamily("generic_json", "json", ("```json", "```"), ("```",), place="start"),
    LeakFamily("xlam", "json", ("```json",), place="start"),
    LeakFamily(
        "generic_json",
        "json",
        tuple(f"<{tag}>" for tag in _PLAIN_TAGS),
        tuple(f"</{tag}>" for tag in _PLAIN_TAGS),
        place="stand",
    ),
    LeakFamily(
        "kimi_k2",
        "named",
        (
            "<|tool_calls_section_begin|>",
            "<|tool_call_section_begin|>",
            "<|tool_call_begin|>",
        ),
        (
            "<|tool_call_end|>",
            "<|tool_calls_section_end|>",
            "<|tool_call_section_end|>",
        ),
        thoughts=True,
    ),
    LeakFamily("deepseek_v3", "named", _DS_OPEN + _TYPED, _DS_CLOSE),
    LeakFamily("deepseek_v31", "named", _DS_OPEN),
    LeakFamily("mistral", "named", ("[TOOL_CALLS]",), ("[/TOOL_CALLS]",)),
    LeakFamily("functionary_v32", "named", (">>>",)),
    LeakFamily(
        "functionary_v2",
        "named",
        ("<|from|>assistant", "<|recipient|>"),
        ("<|stop|>",),
    ),
    LeakFamily("calling_tool", "named", ("[Calling tool:",), ("]",)),
    LeakFamily("gpt_oss", "named", _HARMONY, ("<|call|>",)),
    LeakFamily("gpt_oss", "named", _STRIPPED, place="stand"),
    LeakFamily("gpt_oss", "named", ("to=",), place="inside"),
    LeakFamily(
        "plamo3",
        "named",
        _plamo("begin_tool_requests", "begin_tool_request", "begin_tool_name"),
        _plamo("end_tool_requests", "end_tool_request", "end_tool_arguments"),
    ),
    LeakFamily(
        "seed_oss",
        "tags",
        ("<seed:tool_call>", "<seed:tool_calls>"),
        ("</seed:tool_call>", "</seed:tool_calls>"),
    ),
    LeakFamily("anthropic", "tags", ("<function_calls>",), ("</function_calls>",)),
    LeakFamily(
        "minimax_m2", "tags", ("<minimax:tool_call>",), ("</minimax:tool_call>",)
    ),
    LeakFamily("minimax_m3", "tags", (_M3 + "<tool_call>",), (_M3 + "</tool_call>",)),
    LeakFamily(
        "deepseek_v32",
        "tags",
        tuple(f"<{wrap}>" for wrap in _DSML_TAGS),
        tuple(f"</{wrap}>" for wrap in _DSML_TAGS),
    ),
    LeakFamily("step3", "tags", _DS_OPEN),
    LeakFamily("dots", "tags", ("<dots_function_call>",), ("</dots_function_call>",)),
    LeakFamily("muse", "tags", ("to=",), place="stand"),
    LeakFamily("muse", "tags", ("<atem:function_calls>",), ("</atem:function_calls>",)),
    LeakFamily(
        "kimi_k3",
        "tags",
        ("<|open|>tools<|sep|>",),
        ("<|close|>tools<|sep|>",),
    ),
    LeakFamily(
        "k2_horizon",
        "pairs",
        ("<ifm|tool_calls>", "<ifm|tool_call>"),
        ("</ifm|tool_call>", "</ifm|tool_calls>"),
    ),
    LeakFamily("lfm2", "python", ("<|tool_call_start|>",), ("<|tool_call_end|>",)),
    LeakFamily("llama4_pythonic", "python", ("<|python_start|>",), ("<|python_end|>",)),
    LeakFamily("llama3_json", "python", ("<|python_tag|>",)),
    LeakFamily("olmo3", "python", ("<function_calls>",)),
    LeakFamily("pythonic", "python", ("[",), place="stand"),
    LeakFamily("gemma3_tool_code", "python", ("```tool_code",), ("```",), place="line"),
    LeakFamily("gemma3_tool_code", "python", ("print(",), place="inside"),
    LeakFamily("gemma4", "relaxed", ("<|tool_call>",), ("<tool_call|>",)),
    LeakFamily(
        "functiongemma",
        "relaxed",
        ("<start_function_call>",),
        ("<end_function_call>",),
    ),
)

# What a body without any wrapper is called.
BARE_FAMILY: dict[str, str] = {
    "json": "generic_json",
    "named": "bare_name_json",
    "python": "pythonic",
    "relaxed": "gemma4",
    "pairs": "glm4",
}

# Between the name and its arguments, with the family that writes it.
SEPARATORS: dict[str, str | None] = {
    "[ARGS]": "mistral",
    "[CALL_ID]": "mistral",
    "<tool_sep>": "hunyuan",
    "<tool_sep:opensource>": "hy_v3",
    "<|tool_call_argument_begin|>": "kimi_k2",
    "<|constrain|>": "gpt_oss",
    "<|content|>": "functionary_v2",
    "<|channel|>commentary": "gpt_oss",
    "<|channel|>analysis": "gpt_oss",
    "<|message|>": None,
    "```json": None,
    "```": None,
    "json": None,
    "code": None,
    ".call": "llama3_json",
    "Action Input:": "react",
    **dict.fromkeys(_DS_SEP, "deepseek_v31"),
    **dict.fromkeys(
        _plamo("end_tool_name", "begin_tool_arguments", "msg", "constrain"), "plamo3"
    ),
    "<|plamo:msg|>": "plamo3",
    "<|plamo:constrain|>": "plamo3",
}

# Ends of a turn that servers forget to strip behind a call.
_TURN_ENDS = (
    "</s>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|eom|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<|return|>",
    "<end_of_turn>",
    "<turn|>",
    "<eos>",
    "<|tool_response>",
    "<|close|>message<|sep|>",
    "<|plamo:tag|>",
    *_deepseek("end", "of", "sentence"),
)

# Some formats frame all of a message, its text and thoughts, too. These are markup where
# the message begins or is known to be framed,
_FRAME_STARTS = (
    ">>>all\n",
    "<|open|>response<|sep|>",
    "<|open|>think<|sep|>",
    *(
        f"{turn}<|channel|>{channel}<|message|>"
        for turn in ("", "<|start|>assistant")
        for channel in ("analysis", "commentary", "final")
    ),
    "<|message_model|>",
    "<|content_thinking|>",
    "<|content_text|>",
    "to=self<|message|>",
    "to=user<|message|>",
)
# and these only where it is known.
FRAME_ENDS = frozenset(
    (
        "<|close|>response<|sep|>",
        "<|close|>think<|sep|>",
        "<|start|>assistant",
        "<|end_message|>",
        "<|end|>",
        "<|return|>",
        "<|eom|>",
        "<|eot|>",
    )
)

THOUGHT_OPENERS = (
    "<think>",
    "<thinking>",
    "[THINK]",
    "<seed:think>",
    "<longcat_think>",
    "<mm:think>",
    "<|START_THINKING|>",
    "<|inner_prefix|>",
    "<|channel>thought",
    *_plamo("begin_think"),
)
THOUGHT_CLOSERS = (
    "</think>",
    "</thinking>",
    "[/THINK]",
    "</seed:think>",
    "</longcat_think>",
    "</mm:think>",
    "<|END_THINKING|>",
    "<|inner_suffix|>",
    "<channel|>",
    *_plamo("end_think"),
)


def _rows_by_opener() -> dict[str, list[LeakFamily]]:
    rows: dict[str, list[LeakFamily]] = {}
    for family in FAMILIES:
        for opener in family.opens:
            rows.setdefault(opener, []).append(family)
    return rows


OPENERS = _rows_by_opener()
OPEN_MARKS = Marks(OPENERS)
SEPARATOR_MARKS = Marks(SEPARATORS)
CLOSE_MARKS = Marks(
    [close for family in FAMILIES for close in family.closes if len(close) > 3]
    + list(_TURN_ENDS)
)
FRAME_MARKS = Marks((*_FRAME_STARTS, *FRAME_ENDS))
THOUGHT_MARKS = Marks(THOUGHT_OPENERS + THOUGHT_CLOSERS)


def closers_of(openers: Iterable[str]) -> set[str]:
    """The closers of every family that uses one of `openers`."""
    return {
        close
        for opener in openers
        for row in OPENERS.get(opener, ())
        for close in row.closes
        if close in CLOSE_MARKS.literals
    }


def family_label(opener: str | None, body: BodyKind) -> str:
    """The family that writes this body behind this opener (the first row wins)."""
    if opener is None:
        return BARE_FAMILY.get(body, body)
    rows = OPENERS[opener]
    return next((row.name for row in rows if row.body == body), rows[0].name)
