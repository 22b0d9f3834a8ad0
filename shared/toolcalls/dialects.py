"""How the tagged families spell the tags of a call and of its parameters."""

import html
import re
from dataclasses import dataclass, field, replace
from typing import Literal

from shared.toolcalls.families import DSML_BARS, DSML_WRAPS
from shared.toolcalls.window import Marks

_ATTRIBUTE = re.compile(r"""([\w.]+)=(?:"(.*?)"|'(.*?)'|([^\s"'/>]+))""", re.DOTALL)

# Before an attribute; a byte-level tokenizer leaks its blank as Ġ, or loses it.
_GAPS = (" ", "Ġ", "")


@dataclass(frozen=True)
class TagDialect:
    """The literals of one tagged notation.

    `heads` open the call and `head_end` ends its opening tag; `params`, `param_end`,
    `value_end` do so for a parameter, and `ends` close the call. A dialect without
    heads (arg_key/arg_value) follows a name that was already read.
    """

    family: str
    heads: tuple[str, ...]
    params: tuple[str, ...]
    value_ends: tuple[str, ...]
    ends: tuple[str, ...]
    wraps: tuple[tuple[str, str], ...] = ()  # opener and closer of the wrapper
    head_end: str = ">"
    param_end: str = ">"
    tree: bool = False  # parameters are nested tags of their own names
    own_lines: Literal["", "each", "pair"] = ""  # line breaks that are not the value's
    param_marks: Marks = field(init=False)
    inner_marks: Marks = field(init=False)  # what may end a value
    follow_marks: Marks = field(init=False)  # what may come after a closed value
    after_marks: Marks = field(init=False)  # what may come after the call

    def __post_init__(self) -> None:
        closers = tuple(closer for _, closer in self.wraps)
        after = closers + self.heads + tuple(opener for opener, _ in self.wraps)
        put = object.__setattr__
        put(self, "param_marks", Marks(self.params + self.ends))
        put(
            self,
            "inner_marks",
            Marks(self.params + self.value_ends + self.ends + closers),
        )
        put(self, "follow_marks", Marks(self.params + self.ends + after))
        put(self, "after_marks", Marks(after))


def _wrap(*tags: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"<{tag}>", f"</{tag}>") for tag in tags)


def _invoke(family: str, spaces: tuple[str, ...], wraps: tuple[str, ...]) -> TagDialect:
    """The `<invoke name="…"><parameter name="…">` notation under namespaces."""
    return TagDialect(
        family,
        heads=tuple(f"<{s}invoke{gap}name=" for s in spaces for gap in _GAPS),
        params=tuple(f"<{s}parameter{gap}name=" for s in spaces for gap in _GAPS),
        value_ends=tuple(f"</{s}parameter>" for s in spaces),
        ends=tuple(f"</{s}invoke>" for s in spaces),
        wraps=_wrap(*wraps),
        own_lines="pair",
    )


_FUNCTION_PARAMS = (
    "<parameter=",
    *(f"<{tag}{gap}name=" for tag in ("parameter", "param") for gap in _GAPS),
)

TAG_DIALECTS = (
    TagDialect(
        "qwen3_coder",
        heads=("<function=",),
        params=_FUNCTION_PARAMS,
        value_ends=("</parameter>", "</param>"),
        ends=("</function>",),
        wraps=_wrap("tool_call", "seed:tool_call"),
        own_lines="each",
    ),
    TagDialect(
        "minicpm5",
        heads=tuple(f"<function{gap}name=" for gap in _GAPS),
        params=_FUNCTION_PARAMS,
        value_ends=("</param>", "</parameter>"),
        ends=("</function>",),
        wraps=_wrap("tool_call"),
        own_lines="pair",
    ),
    _invoke(
        "anthropic",
        ("", "antml:", "minimax:"),
        ("function_calls", "minimax:tool_call", "dots_function_call", "tool_call"),
    ),
    _invoke("step3", ("steptml:",), ()),
    _invoke("muse", ("atem:",), ("atem:function_calls",)),
    *(
        replace(
            _invoke("deepseek_v32", (bar,), tuple(bar + wrap for wrap in DSML_WRAPS)),
            own_lines="",
        )
        for bar in DSML_BARS
    ),
    TagDialect(
        "kimi_k3",
        heads=("<|open|>call ",),
        params=("<|open|>argument ",),
        value_ends=("<|close|>argument<|sep|>",),
        ends=("<|close|>call<|sep|>",),
        wraps=(("<|open|>tools<|sep|>", "<|close|>tools<|sep|>"),),
        head_end="<|sep|>",
        param_end="<|sep|>",
    ),
    TagDialect(
        "minimax_m3",
        heads=("]<]minimax[>[<invoke name=",),
        params=(),
        value_ends=(),
        ends=("]<]minimax[>[</invoke>",),
        tree=True,
    ),
)
PAIR_DIALECTS = tuple(
    TagDialect(
        "glm4",
        heads=(),
        params=(f"<{space}arg_key{mark}>",),
        value_ends=(f"</{space}arg_value{mark}>",),
        ends=(),
        wraps=(
            *_wrap(f"{space}tool_call{mark}", f"{space}tool_calls{mark}"),
            (f"<tool_call{mark}>", f"<end_of_tool_call{mark}>"),
        ),
        param_end=f"<{space}arg_value{mark}>",
    )
    for space, mark in (("", ""), ("ifm|", ""), ("longcat_", ""), ("", ":opensource"))
)
TAG_HEADS = {head: dialect for dialect in TAG_DIALECTS for head in dialect.heads}
TAG_HEAD_MARKS = Marks(TAG_HEADS)
PAIR_HEADS = {key: dialect for dialect in PAIR_DIALECTS for key in dialect.params}
PAIR_HEAD_MARKS = Marks(PAIR_HEADS)


def tag_attributes(literal: str, header: str) -> dict[str, str]:
    """The attributes of an opening tag; its main one (the name) under "name".

    `literal` is the marker that opened the tag and `header` what follows up to its
    end. In `<function=NAME>` the name is all of the header, quotes and blanks included.
    """
    if literal in PAIR_HEADS or literal.endswith(("function=", "parameter=")):
        return {"name": header}
    prefix = "name=" if literal.endswith("name=") else ""
    found = {
        key: html.unescape(double or single or bare)
        for key, double, single, bare in _ATTRIBUTE.findall(prefix + header)
    }
    for alias in ("key", "tool"):
        if alias in found:
            found.setdefault("name", found[alias])
    return found
