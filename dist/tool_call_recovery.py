"""
title: Tool call recovery
author: Aqueduct
version: 0.1.0
description: Tool calls that a model leaks as text become real tool calls, while it streams.
license: MIT
required_open_webui_version: 0.12.0
"""

# Aqueduct 0.1.0. Copyright (c) 2026 The Aqueduct authors.
# SPDX-License-Identifier: MIT
#
# Built from filters/tool_call_recovery.py and what it uses from shared/.
# Make changes there: the next update replaces this file.
# Content hash: dd78c0318a30a0d9

import asyncio
import html
import json
import logging
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cached_property, lru_cache
from json import JSONDecoder
from typing import Any, Literal, NoReturn

import jsonschema
from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator
from pydantic import BaseModel, Field
from referencing.exceptions import Unresolvable

# --- shared/toolcalls/pieces.py ---


@dataclass(frozen=True, slots=True)
class VisibleText:
    """Text for the user, unchanged."""

    text: str


@dataclass(frozen=True, slots=True)
class RecoveredCall:
    """A call of a known tool whose arguments fit the tool's schema.

    `arguments` is the text of a JSON object; `raw` the exact source characters the
    call replaces, its wrapper's opening markers included. Where one piece of source
    holds several calls the first carries the source and the others an empty `raw`.
    """

    name: str
    arguments: str
    family: str
    raw: str


@dataclass(frozen=True, slots=True)
class CutCall:
    """A call of a known tool that the length limit cut short; never executed."""

    family: str
    raw: str


@dataclass(frozen=True, slots=True)
class Markup:
    """Wrapper markup beside recovered calls: closers, separators, white space."""

    raw: str


Piece = VisibleText | RecoveredCall | CutCall | Markup


# --- shared/toolcalls/window.py ---

_SPACE_RUN = re.compile(r"\s*")


class Marks:
    """A set of literal markers that is searched and matched longest first."""

    def __init__(self, literals: Iterable[str]) -> None:
        ordered = sorted(set(literals), key=lambda one: (-len(one), one))
        self.literals = tuple(ordered)
        self.regex = re.compile("|".join(map(re.escape, ordered)))
        self.prefixes = {one[:n] for one in ordered for n in range(1, len(one))}
        self.pairs = {one[:2] for one in ordered}
        self.longest = max(map(len, ordered))
        self._leads = re.compile(
            "[" + re.escape("".join({o[0] for o in ordered})) + "]"
        )
        self._by_pair: dict[str, list[str]] = {}
        for one in ordered:
            self._by_pair.setdefault(one[:2], []).append(one)

    def match(self, text: str, pos: int) -> str | None:
        """The longest marker that stands at `pos`."""
        for one in self._by_pair.get(text[pos : pos + 2], ()):
            if text.startswith(one, pos):
                return one
        lead = text[pos : pos + 1]
        return lead if lead in self._by_pair else None

    def begins(self, text: str, pos: int) -> bool:
        """Whether `text` ends, after `pos`, amid a marker that begins there."""
        return len(text) - pos < self.longest and text[pos:] in self.prefixes

    def tail(self, text: str, pos: int) -> int:
        """Where a marker that is not complete yet begins at the end of `text`."""
        start = max(pos, len(text) - self.longest + 1)
        for lead in self._leads.finditer(text, start):
            if text[lead.start() :] in self.prefixes:
                return lead.start()
        return len(text)


class Window:
    """The unread end of a growing text, and the source of all of it.

    Offsets count from the first character the window was opened on; `pos` is an
    index into `text`, the part that is still in view.
    """

    __slots__ = ("_base", "_parts", "ended", "pos", "starved", "text", "truncated")

    def __init__(self, text: str, pos: int) -> None:
        self.text = text
        self.pos = pos
        self.ended = False
        self.truncated = False
        self.starved = False  # a reader wanted more when the text had ended
        self._base = 0
        self._parts = [text]

    @property
    def offset(self) -> int:
        """How many characters lie before the reading position."""
        return self._base + self.pos

    def feed(self, chunk: str) -> None:
        """Append `chunk` and drop from view what has been read."""
        self._parts.append(chunk)
        self.text = self.text[self.pos :] + chunk
        self._base += self.pos
        self.pos = 0

    def end(self, *, truncated: bool) -> None:
        """No more text comes."""
        self.ended = True
        self.truncated = truncated

    def cut(self, start: int, stop: int | None = None) -> str:
        """The source between two offsets."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0][start:stop]

    def space(self) -> Generator[None, None, None]:
        """Skip white space."""
        while True:
            found = _SPACE_RUN.match(self.text, self.pos)
            if found is not None:
                self.pos = found.end()
            if self.pos < len(self.text):
                return
            if self.ended:
                self.starved = True
                return
            yield

    def peek(self) -> Generator[None, None, str]:
        """The next character, "" at the end."""
        while self.pos >= len(self.text):
            if self.ended:
                self.starved = True
                return ""
            yield
        return self.text[self.pos]

    def glance(self) -> Generator[None, None, str]:
        """The next character behind blanks, "" at the end; nothing is read."""
        ahead = 0
        while True:
            while self.text[self.pos + ahead : self.pos + ahead + 1] in (" ", "\t"):
                ahead += 1
            if self.pos + ahead < len(self.text):
                return self.text[self.pos + ahead]
            if self.ended:
                return ""
            yield

    def mark(
        self, marks: Marks, *, consume: bool = True
    ) -> Generator[None, None, str | None]:
        """The longest of `marks` that stands here, None when there is none."""
        while True:
            rest = len(self.text) - self.pos
            if (
                rest < marks.longest
                and not self.ended
                and (not rest or self.text[self.pos :] in marks.prefixes)
            ):
                yield
                continue
            found = marks.match(self.text, self.pos)
            if (self.ended and self.text[self.pos :] in marks.prefixes) or not rest:
                self.starved = True
            if found is not None and consume:
                self.pos += len(found)
            return found

    def find(self, marks: Marks) -> Generator[None, None, str | None]:
        """Go to the next of `marks` (not over it); None and at the end if none comes."""
        while True:
            found = marks.regex.search(self.text, self.pos)
            if found is not None:
                self.pos = found.start()
                return (yield from self.mark(marks, consume=False))
            if self.ended:
                self.pos = len(self.text)
                self.starved = True
                return None
            self.pos = marks.tail(self.text, self.pos)
            yield

    def upto(
        self, literal: str, limit: int, *, start: int = 0, consume: bool = True
    ) -> Generator[None, None, str | None]:
        """The text before `literal`, which must come within `limit` characters.

        Reading begins `start` characters ahead; the literal is skipped, too. None, and
        nothing read, when it does not come.
        """
        while True:
            begin = self.pos + start
            found = self.text.find(literal, begin, begin + limit + len(literal))
            if found >= 0:
                text = self.text[begin:found]
                if consume:
                    self.pos = found + len(literal)
                return text
            if len(self.text) - begin >= limit + len(literal):
                return None
            if self.ended:
                self.starved = True
                return None
            yield


# --- shared/toolcalls/families.py ---

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


# --- shared/toolcalls/dialects.py ---

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


# --- shared/toolcalls/fences.py ---

# What may stand before a fence on its line: blanks, quote and list markers.
_FENCE_PREFIX = " \t>-*+0123456789.)"


class CodeTracker:
    """Follows a message; `in_code` tells whether its next character is code."""

    __slots__ = (
        "_after_blank",
        "_blank",
        "_closing",
        "_fence",
        "_indent",
        "_info",
        "_inline",
        "_prefix",
        "_written",
    )

    def __init__(self) -> None:
        self._fence = ""  # the run that opened the fence
        self._info = False  # still on the line that opened it
        self._closing = False  # a closing run was read, its line is not over
        self._inline = 0  # the length of the run that opened inline code
        self._prefix = True  # nothing but a fence's prefix on this line so far
        self._blank = True  # nothing but blanks on this line so far
        self._indent = 0
        self._after_blank = False  # an indented line is code
        self._written = False  # some line before this one is not blank

    @property
    def in_fence(self) -> bool:
        """Whether the text stands in a fence, its opening line included."""
        return bool(self._fence)

    @property
    def in_code(self) -> bool:
        """Whether the next character is code."""
        indented = self._indent >= 4 and self._after_blank
        return bool(self._fence or self._inline or indented)

    @property
    def at_line_start(self) -> bool:
        """Whether only blanks stand before on this line."""
        return self._blank

    def plain(self, text: str) -> None:
        """Text without line breaks, backticks and tildes."""
        if not (self._prefix or self._closing):
            return
        if self._blank:
            blanks = text[: len(text) - len(text.lstrip(" \t"))]
            self._indent += len(blanks.expandtabs(4))
            self._blank = len(blanks) == len(text)
        if text.strip(_FENCE_PREFIX):
            self._prefix = self._closing = False

    def run(self, char: str, count: int) -> None:
        """A complete run of backticks or tildes."""
        if self._fence:
            self._run_in_fence(char, count)
        elif self._inline:
            if char == "`" and count == self._inline:
                self._inline = 0
        elif count >= 3 and self._prefix:
            # However deep it is indented: it may stand in a list.
            self._fence = char * count
            self._info = True
        elif char == "`" and not self.in_code:
            self._inline = count
        self._blank = self._prefix = False

    def _run_in_fence(self, char: str, count: int) -> None:
        if self._info and char == self._fence[0] == "`":
            # No fence has backticks on its opening line: it was inline code.
            self._inline = 0 if count == len(self._fence) else len(self._fence)
            self._fence = ""
            self._info = False
        else:
            opened = char == self._fence[0] and count >= len(self._fence)
            self._closing = opened and self._prefix

    def newline(self) -> bool:
        """The end of a line; True when the line was blank."""
        blank = self._blank
        if self._closing:
            self._fence = ""
        if blank:
            self._inline = 0
        code_line = self._indent >= 4 and self._after_blank
        self._after_blank = (blank and self._written) or (code_line and not blank)
        self._written = self._written or not blank
        self._blank = self._prefix = True
        self._closing = self._info = False
        self._indent = 0
        return blank


# --- shared/toolcalls/styles.py ---


@dataclass(frozen=True)
class ValueStyle:
    """The strings and brackets of one notation.

    A quote opens a string only where a value or key may begin, and closes it only
    when one of `follow` (or the end) comes next. Both are true of any well-formed
    text, and they hold a string together whose inner quotes were never escaped.
    """

    quotes: Marks
    brackets: str
    follow: str
    raw_quotes: frozenset[str] = frozenset()  # strings without backslash escapes
    barewords: bool = False  # words without quotes are strings
    plain: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        leads = "".join(sorted({quote[0] for quote in self.quotes.literals}))
        special = re.escape(self.brackets + leads + ",:=<")
        object.__setattr__(self, "plain", re.compile(rf"[^\s{special}]+|\s+"))


JSON_STYLE = ValueStyle(quotes=Marks(['"', "'"]), brackets="{}[]", follow=",:]}")
PYTHON_STYLE = ValueStyle(
    quotes=Marks(['"""', "'''", '"', "'"]), brackets="{}[]()", follow=",:]})"
)
GEMMA_STYLE = ValueStyle(
    quotes=Marks(['<|"|>', "<escape>", '"', "'"]),
    brackets="{}[]",
    follow=",:]}",
    raw_quotes=frozenset({'<|"|>', "<escape>"}),
    barewords=True,
)

# What may stand in a string before a quote or a single last backslash.
STRING_RUN = {
    '"': re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL),
    "'": re.compile(r"(?:[^'\\]++|\\.)*+", re.DOTALL),
}


# --- shared/toolcalls/values.py ---

_DEEPEST = 80
_SPACES = re.compile(r"\s*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_ARGUMENT = re.compile(r"\s*([^\W\d][\w.\-]*)\s*=(?!=)")
_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(\n)|(.))", re.DOTALL
)
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}
_LITERALS = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
}


class BareWord(str):
    """A string that was written without quotes."""

    __slots__ = ()


def read_value(text: str, style: ValueStyle, *, close: bool = False) -> Any:
    """The one value that `text` holds, ValueError when it does not.

    `close` adds closing brackets that are missing at the end.
    """
    reader = _ValueReader(text, style, close)
    value = reader.value(0)
    reader.skip()
    if reader.pos < len(text):
        raise ValueError("more text after the value")
    return value


def read_arguments(
    text: str, style: ValueStyle, *, close: bool = False
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments of `(…)`, ValueError when it is no such list.

    Words without quotes are read as strings: models write the members of enums so.
    """
    reader = _ValueReader(text, style, close)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    reader.expect("(")
    while not reader.closes(")"):
        name = _ARGUMENT.match(text, reader.pos)
        if name is None:
            positional.append(reader.value(1))
            if isinstance(positional[-1], BareWord):
                raise ValueError("a variable, not a value")
        else:
            reader.pos = name.end()
            named[name.group(1)] = reader.value(1)
        if not reader.comma(")"):
            break
    reader.skip()
    if reader.pos < len(text):
        raise ValueError("more text after the arguments")
    return positional, named


class _ValueReader:
    """Recursive descent over one complete text."""

    def __init__(self, text: str, style: ValueStyle, close: bool) -> None:
        self.text = text
        self.style = style
        self.close = close
        self.pos = 0

    def skip(self) -> None:
        found = _SPACES.match(self.text, self.pos)
        if found is not None:
            self.pos = found.end()

    def ended(self) -> bool:
        return self.pos >= len(self.text)

    def expect(self, char: str) -> None:
        self.skip()
        if not self.text.startswith(char, self.pos):
            raise ValueError(f"expected {char}")
        self.pos += len(char)

    def closes(self, bracket: str) -> bool:
        """Whether the closing bracket (or, when allowed, the end) comes; skips it."""
        self.skip()
        if self.text.startswith(bracket, self.pos):
            self.pos += 1
            return True
        return self.ended() and self.close

    def comma(self, bracket: str) -> bool:
        """True behind a comma, False behind the closing bracket."""
        if self.closes(bracket):
            return False
        self.expect(",")
        return True

    def value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("nested too deep")
        self.skip()
        quote = self.style.quotes.match(self.text, self.pos)
        if quote is not None:
            return self.string(quote)
        char = self.text[self.pos : self.pos + 1]
        if char and char in "{[(" and char in self.style.brackets:
            self.pos += 1
            return self.mapping(depth) if char == "{" else self.sequence(char, depth)
        return self.scalar()

    def mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self.closes("}"):
            quote = self.style.quotes.match(self.text, self.pos)
            key = self.string(quote) if quote else self.bare_key()
            self.expect(":")
            found[key] = self.value(depth + 1)
            if not self.comma("}"):
                break
        return found

    def bare_key(self) -> str:
        stop = self.text.find(":", self.pos)
        key = self.text[self.pos : stop].strip() if stop >= 0 else ""
        if not key or (not self.style.barewords and not key.isidentifier()):
            raise ValueError("expected a key")
        self.pos = stop
        return key

    def sequence(self, opening: str, depth: int) -> list[Any]:
        closing = "]" if opening == "[" else ")"
        found: list[Any] = []
        while not self.closes(closing):
            found.append(self.value(depth + 1))
            if not self.comma(closing):
                break
        return found

    def scalar(self) -> Any:
        stop = self.pos
        while stop < len(self.text) and self.text[stop] not in ",]})":
            stop += 1
        word = self.text[self.pos : stop].strip()
        if not word:
            raise ValueError("an empty value")
        self.pos = stop
        if word in _LITERALS:
            return _LITERALS[word]
        if _NUMBER.fullmatch(word):
            return int(word) if word.lstrip("+-").isdigit() else float(word)
        if self.style.barewords or (
            ")" in self.style.brackets and _DOTTED.fullmatch(word)
        ):
            return BareWord(word)
        raise ValueError("neither a literal nor a number")

    def string(self, quote: str) -> str:
        start = self.pos = self.pos + len(quote)
        raw = quote in self.style.raw_quotes
        inner = False  # see `brackets`: quotes that nobody escaped
        while True:
            if raw:
                self.pos = self.text.find(quote, self.pos)
            else:
                run = STRING_RUN[quote[0]].match(self.text, self.pos)
                self.pos = run.end() if run is not None else -1
            if self.pos < 0 or self.pos >= len(self.text):
                raise ValueError("a string without its end")
            if not self.text.startswith(quote, self.pos):
                self.pos += (
                    1  # a last backslash, or one quote in a triple-quoted string
                )
                continue
            stop = self.pos
            mark = self.pos = stop + len(quote)
            if self.text[mark : mark + 1].isalnum():
                inner = quote == '"'
                continue
            self.skip()
            if self.ended() or self.text[self.pos] in self.style.follow:
                inside = self.text[start:stop]
                return inside if raw else unescape_string(inside)
            if not inner:
                raise ValueError("text behind a string")
            inner = False
            self.pos = mark


def unescape_string(text: str) -> str:
    """Backslash escapes of JSON and Python resolved; unknown ones stay as they are."""
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(_unescape_one, text)
    # A pair of \\u escapes is one character above U+FFFF.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescape_one(found: re.Match[str]) -> str:
    code = found.group(1) or found.group(2) or found.group(3)
    if code:
        return chr(int(code, 16)) if int(code, 16) <= 0x10FFFF else found.group()
    if found.group(4):
        return ""  # a line that goes on
    char = found.group(5)
    if char in _SHORT:
        return _SHORT[char]
    return char if char in "\"'\\/`" else found.group()


# --- shared/toolcalls/repair.py ---

_UNREADABLE_TEXT = (ValueError, RecursionError)


def strict_json(text: str) -> Any:
    """The JSON value of `text`; NaN and infinities are no JSON."""
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def possible_values(
    text: str,
    style: ValueStyle = JSON_STYLE,
    *,
    close: bool = False,
    decode: bool = False,
) -> Iterator[Any]:
    """Readings of `text`, each repair only when the plainer ones did not satisfy.

    As is; HTML entities; trailing commas, single quotes, Python literals, raw line
    breaks and unescaped quotes in strings; with `decode`, quotes escaped once too
    often; with `close`, because the message or the wrapper ended, missing closers.
    """
    plain = html.unescape(text)
    steps: list[Callable[[], Any]] = [
        lambda: strict_json(text),
        lambda: strict_json(plain),
        lambda: read_value(text, style),
        lambda: read_value(plain, style),
    ]
    if decode:
        steps.append(lambda: read_value(unescape_string(text), style))
    if close:
        steps.append(lambda: read_value(text, style, close=True))
    seen: list[Any] = []
    for step in steps:
        try:
            value = step()
            known = value in seen
        except _UNREADABLE_TEXT:
            continue
        if not known:
            seen.append(value)
            yield value


def possible_arguments(value: object) -> Iterator[Any]:
    """Readings of a call's arguments: none is {}, text may be JSON encoded twice."""
    if value is None or value == "":
        yield {}
    elif isinstance(value, str):
        yield from possible_values(value, decode=True)
    else:
        yield value


def arguments_text(arguments: dict[str, Any]) -> str:
    """`arguments` as JSON text that every later encoder accepts."""
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair can be escaped but not encoded.
    return text if _encodes(text) else json.dumps(arguments, allow_nan=False)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- shared/toolcalls/schema.py ---

JsonSchema = Mapping[str, Any]

_NULLS = frozenset({"null", "None"})
_BOOLEANS = {"true": True, "false": False}
# What some schemas call a type, and what JSON Schema does.
_TYPE_NAMES = {
    "str": "string",
    "text": "string",
    "int": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}
# What models put around arguments once more.
_ENVELOPES = frozenset({"arguments", "parameters", "properties", "args", "input"})
_TEXT_TYPES = ({"string"}, {"string", "null"})
_UNREADABLE = (ValueError, RecursionError)


class SchemaFit:
    """One tool's parameter schema, compiled once."""

    def __init__(self, schema: JsonSchema) -> None:
        self.root = schema
        self.properties: Mapping[str, JsonSchema] = self._mapping("properties")
        self._validator = Draft202012Validator(schema)
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except SchemaError:
            # A tool whose schema is broken still runs; only its shape cannot be judged.
            self._validator = Draft202012Validator({"type": "object"})

    def _mapping(self, key: str) -> Mapping[str, Any]:
        found = self.root.get(key)
        return found if isinstance(found, Mapping) else {}

    def fits(self, arguments: object) -> bool:
        """Whether `arguments` is an object that the schema allows."""
        try:
            return isinstance(arguments, dict) and self._validator.is_valid(arguments)
        except (Unresolvable, RecursionError):
            return isinstance(arguments, dict)

    def fitted(self, arguments: object) -> dict[str, Any] | None:
        """`arguments` as they are, or with values typed by the schema; None: no fit."""
        if not isinstance(arguments, dict):
            return None
        arguments = self._opened(arguments)
        if self.fits(arguments):
            return arguments
        try:
            typed = coerced_value(arguments, self.root, self.root)
        except RecursionError:
            return None
        return typed if self.fits(typed) else None

    def _opened(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What stands in an envelope, when all of it are parameters of the tool."""
        envelope, content = next(iter(arguments.items()), ("", None))
        if (
            len(arguments) > 1
            or envelope not in _ENVELOPES - self.properties.keys()
            or not self.properties
        ):
            return arguments
        if isinstance(content, str) and content.lstrip().startswith("{"):
            content = _container(content.strip())
        if isinstance(content, dict) and content.keys() <= self.properties.keys():
            return content
        return arguments

    def typed(self, name: str, raw: str) -> Any:
        """The value of parameter `name` whose source is the text `raw`."""
        try:
            return typed_value(raw, self.properties.get(name, {}), self.root)
        except RecursionError:
            return raw


def resolved_schema(schema: object, root: JsonSchema) -> JsonSchema:
    """`schema` behind its local `$ref`, {} when there is nothing to go by."""
    for _ in range(8):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return schema
        found: Any = root
        for part in reference[2:].split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        schema = found
    return {}


def schema_options(schema: object, root: JsonSchema) -> list[JsonSchema]:
    """The alternatives of a schema (anyOf, oneOf, allOf flattened), at least one."""
    plain = resolved_schema(schema, root)
    found: list[JsonSchema] = []
    for key in ("anyOf", "oneOf", "allOf"):
        for option in plain.get(key) or ():
            found.extend(schema_options(option, root))
    return found if found and "type" not in plain else [plain]


def schema_types(options: list[JsonSchema]) -> list[str]:
    """The JSON types that the alternatives allow, in their order; []: any."""
    types: list[str] = []
    for option in options:
        stated = option.get("type")
        if stated is None:
            members = option.get("enum") or [
                option[k] for k in ("const",) if k in option
            ]
            stated = [_type_of(member) for member in members]
            if not stated:
                return []
        names = [stated] if isinstance(stated, str) else stated
        types.extend(_TYPE_NAMES.get(name, name) for name in names)
    return types


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if isinstance(value, int) else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def typed_value(raw: str, schema: object, root: JsonSchema) -> Any:
    """What raw text means under `schema`; text that fits no other type is a string."""
    options = schema_options(schema, root)
    types = schema_types(options)
    text = raw.strip()
    if not types:
        return _untyped(raw)
    if "string" in types and any(raw in (o.get("enum") or ()) for o in options):
        return raw
    if "null" in types and text in _NULLS:
        return None
    if text[:1] in ("{", "[") and ("object" in types or "array" in types):
        value = _container(text)
        if value is not None and _type_of(value) in types:
            return coerced_value(value, schema, root)
    for kind in types:
        if kind == "string":
            return raw
        if kind == "boolean" and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        if kind in ("integer", "number"):
            number = _number(text, kind)
            if number is not None:
                return number
    return raw


def _untyped(raw: str) -> Any:
    try:
        return json.loads(raw)
    except _UNREADABLE:
        return raw


def _container(text: str) -> Any:
    unescaped = text.replace('\\"', '"').replace("\\\\", "\\")
    for source, style in (
        (text, JSON_STYLE),
        (text, PYTHON_STYLE),
        (unescaped, JSON_STYLE),
    ):
        try:
            return json.loads(source)
        except _UNREADABLE:
            pass
        try:
            return read_value(source, style)
        except _UNREADABLE:
            continue
    return None


def _number(text: str, kind: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    if value != value or value in (float("inf"), float("-inf")):
        return None
    if kind == "integer":
        return int(value) if value.is_integer() else None
    return value


def coerced_value(value: Any, schema: object, root: JsonSchema) -> Any:
    """`value` with its parts typed as `schema` says, where they can only mean that."""
    options = schema_options(schema, root)
    types = schema_types(options)
    if isinstance(value, str):
        return typed_value(value, schema, root) if types else value
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Codes and numbers of houses are often written without quotes.
        return json.dumps(value) if set(types) in _TEXT_TYPES else value
    option = options[0]
    if isinstance(value, dict):
        for candidate in options:
            if candidate.get("properties"):
                option = candidate
                break
        properties = option.get("properties") or {}
        return {
            k: coerced_value(v, properties.get(k, {}), root) for k, v in value.items()
        }
    if isinstance(value, list):
        items: object = next((o["items"] for o in options if "items" in o), {})
        return [coerced_value(one, items, root) for one in value]
    return value


# --- shared/toolcalls/toolset.py ---


class KnownTool:
    """A tool of the request: its name and its parameter schema."""

    def __init__(self, name: str, parameters: Mapping[str, Any]) -> None:
        self.name = name
        self.parameters = parameters

    @cached_property
    def schema(self) -> SchemaFit:
        return SchemaFit(self.parameters)

    @property
    def required(self) -> list[str]:
        return list(self.parameters.get("required") or ())


class Toolset:
    """The known tools, with every prefix of their names for reading in a stream."""

    def __init__(self, tools: Sequence[KnownTool]) -> None:
        self.tools = tuple(tools)
        self._exact = {tool.name: tool for tool in tools}
        self._by_key: dict[str, KnownTool | None] = {}
        for tool in tools:
            key = name_key(tool.name)
            # Two tools that differ only in spelling are found by exact name only.
            self._by_key[key] = None if key in self._by_key else tool
        written = [
            prefix + key for key in self._by_key for prefix in ("", "functions.")
        ]
        self.prefixes = {name[:n] for name in written for n in range(1, len(name) + 1)}
        self.pairs = frozenset(name[:2] for name in written)

    def __bool__(self) -> bool:
        return bool(self.tools)

    def find(self, name: str) -> KnownTool | None:
        """The tool called `name`: exactly, or but for case, `functions.`, `-` and `_`."""
        if name in self._exact:
            return self._exact[name]
        key = name_key(name)
        return self._by_key.get(key) or self._by_key.get(key.removeprefix("functions."))

    def starting_with(self, part: str) -> KnownTool | None:
        """A tool whose name may be what `part` began to spell."""
        key = name_key(part).removeprefix("functions.")
        return next(
            (t for t in self.tools if key and name_key(t.name).startswith(key)), None
        )

    def by_arguments(self, arguments: object) -> KnownTool | None:
        """The only tool that takes `arguments`, all of them by name."""
        if not isinstance(arguments, dict) or not arguments:
            return None
        found = [
            tool
            for tool in self.tools
            if arguments.keys() <= tool.schema.properties.keys()
            and tool.schema.fits(arguments)
        ]
        return found[0] if len(found) == 1 else None


def name_key(name: str) -> str:
    """A name as it is compared: without case, `-` as `_`."""
    return name.casefold().replace("-", "_")


def make_toolset(specs: Sequence[Mapping[str, Any]]) -> Toolset:
    """The toolset of OpenAI tool specs, or of bare `{name, parameters}` objects."""
    functions = []
    for spec in specs:
        function = spec.get("function", spec)
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            functions.append([function["name"], function.get("parameters") or {}])
    return _cached_toolset(json.dumps(functions, default=str))


@lru_cache(maxsize=64)
def _cached_toolset(functions: str) -> Toolset:
    # A scanner is made per message; its schemas are compiled once for all of them.
    return Toolset(
        [KnownTool(name, schema) for name, schema in json.loads(functions) if name]
    )


# --- shared/toolcalls/bodystate.py ---

LONGEST_HEAD = 300  # characters of a tag, or of an object before it must name its tool
_WHOLE_END = re.compile(r"""(?:["'}\]]|true|false|null|True|False|None)\s*$""")


@dataclass(frozen=True, slots=True)
class FoundCall:
    """A known tool and the JSON text of arguments that fit it."""

    tool: KnownTool
    arguments: str


@dataclass(slots=True)
class BodyState:
    """The body that is being read.

    `opener` is the wrapper before it. `strict`: there was none, so only the plain
    shapes count; `listed`: it stands in brackets, where Python calls do; `first`: no
    call was read before it; `alone`: the message begins here, so a tool's name may be a
    line of its own. The readers note in `tool` and `family` whose body it is, and in
    `fenced` that they opened a code fence. `trusted`: the wrapper is a special
    token, which nobody types, so there is no doubt that a call was meant.
    """

    window: Window
    tools: Toolset
    opener: str | None
    strict: bool
    listed: bool = False
    first: bool = True
    alone: bool = False
    tool: KnownTool | None = None
    family: str = ""
    fenced: bool = False
    trusted: bool = False

    def label(self, body: BodyKind, separator: str | None = None) -> None:
        """Name the family by its separator, else by opener and body."""
        told = SEPARATORS.get(separator) if separator else None
        self.family = told or family_label(self.opener, body)

    def may_close(self, text: str) -> bool:
        """Whether missing brackets may be added: nothing was cut off amid a value."""
        if not self.window.starved:  # the wrapper was closed
            return True
        return not self.window.truncated and _WHOLE_END.search(text) is not None

    def find_tool(self, name: str) -> KnownTool | None:
        """The tool of a written name, blanks and quotes around it aside."""
        plain = name.strip()
        for candidate in (name, plain, plain.strip("\"'")):
            tool = self.tools.find(candidate)
            if tool is not None:
                return tool
        return None

    def fit(
        self, tool: KnownTool, arguments: object, *, as_meant: bool = True
    ) -> list[FoundCall]:
        """The call of `tool`, [] when the arguments do not fit its schema.

        Behind a special token they need not (`as_meant`): as with a server's own
        parser, the tool tells the model what is wrong with them.
        """
        fitted = tool.schema.fitted(arguments)
        if fitted is None and as_meant and self.trusted and isinstance(arguments, dict):
            fitted = arguments
        if fitted is None:
            return []
        known = tool.schema.properties.keys()
        if self.strict and fitted and known and not known & fitted.keys():
            return []
        try:
            return [FoundCall(tool, arguments_text(fitted))]
        except (ValueError, RecursionError):  # what JSON has no words for
            return []

    def fit_first(self, tool: KnownTool, readings: Iterable[Any]) -> list[FoundCall]:
        """The call with the first of several readings of its arguments that fits."""
        seen = []
        for arguments in readings:
            if found := self.fit(tool, arguments, as_meant=False):
                return found
            seen.append(arguments)
        return self.fit(tool, seen[0]) if seen else []

    def fit_all(self, calls: Iterable[tuple[str, Any]]) -> list[FoundCall]:
        """All of the calls, [] when one of them is of no known tool or does not fit."""
        fitting: list[FoundCall] = []
        for name, arguments in calls:
            tool = self.tools.find(name)
            if tool is None:
                return []
            self.tool = tool
            found = self.fit_first(tool, possible_arguments(arguments))
            if not found:
                return []
            fitting += found
        return fitting


def only_text_parameter(tool: KnownTool) -> str | None:
    """The parameter of a tool that takes one required text and nothing else."""
    names = list(tool.schema.properties)
    if len(names) != 1 or tool.required != names:
        return None
    kind = tool.schema.properties[names[0]].get("type")
    return names[0] if kind == "string" else None


# --- shared/toolcalls/brackets.py ---


def read_bracketed(
    window: Window, style: ValueStyle, *, depth: int = 0
) -> Generator[None, None, bool]:
    """Go from an opening bracket to behind its closing one.

    `depth` is the number of brackets already opened. False when the text ended or the
    wrapper of the call was closed before the last bracket was.
    """
    structural = depth == 0  # a key or value may begin here
    while True:
        text, pos = window.text, window.pos
        run = style.plain.match(text, pos)
        if run is not None:
            structural = structural and text[pos].isspace()
            window.pos = run.end()
            continue
        if pos >= len(text):
            if window.ended:
                window.starved = True
                return False
            yield
            continue
        char = text[pos]
        if char in style.brackets:
            structural = char in "{[("
            depth += 1 if structural else -1
            window.pos += 1
            if depth <= 0:
                return True
            continue
        if char in ",:=":
            structural = True
            window.pos += 1
            continue
        quote = (yield from window.mark(style.quotes)) if structural else None
        structural = False
        if quote is not None:
            if not (yield from _read_string(window, style, quote)):
                return False
        elif char == "<" and (yield from window.mark(CLOSE_MARKS, consume=False)):
            return False
        elif window.pos < len(window.text):
            window.pos += 1


def _read_string(
    window: Window, style: ValueStyle, quote: str
) -> Generator[None, None, bool]:
    """Go behind the end of a string whose opening quote was read, and space after it."""
    closing = Marks([quote]) if len(quote) > 1 else None
    inner = False  # an inner quote was opened that nobody escaped
    while True:
        if not (yield from _read_to_quote(window, style, quote, closing)):
            return False
        window.pos += len(quote)
        after = yield from window.peek()
        if after.isalnum():
            inner = quote == '"'
            continue
        yield from window.space()
        after = yield from window.peek()
        if not after or after in style.follow or not inner:
            return True
        if after == "<" and (yield from window.mark(CLOSE_MARKS, consume=False)):
            return True
        inner = False


def _read_to_quote(
    window: Window, style: ValueStyle, quote: str, closing: Marks | None
) -> Generator[None, None, bool]:
    if closing is not None and quote in style.raw_quotes:
        return (yield from window.find(closing)) is not None
    inside = STRING_RUN[quote[0]]
    while True:
        run = inside.match(window.text, window.pos)
        if run is not None:
            window.pos = run.end()
        rest = len(window.text) - window.pos
        if rest and window.text[window.pos] != "\\":
            if closing is None or (yield from window.mark(closing, consume=False)):
                return True
            window.pos += 1  # one quote inside a triple-quoted string
        elif window.ended:
            window.pos = len(window.text)
            window.starved = True
            return False
        else:
            yield


# --- shared/toolcalls/tags.py ---

_LONGEST_TAG = 300


@dataclass(slots=True)
class TagParameter:
    """One parameter; `start` and `stop` are offsets into the window's source."""

    attributes: dict[str, str]
    start: int
    stop: int


@dataclass(slots=True)
class TaggedBody:
    """What stood between a call's tags: parameters, or one JSON object."""

    parameters: list[TagParameter] = field(default_factory=list)
    json_span: tuple[int, int] | None = None
    closed: bool = False  # by the call's own end tag or its wrapper's
    open_value: bool = False  # the text ended in the last value


def read_tagged(
    window: Window, dialect: TagDialect, known: Collection[str]
) -> Generator[None, None, TaggedBody | None]:
    """Read from behind the call's opening tag to behind its closing one.

    `known` are the parameter names of the tool: they tell a parameter that follows
    one without its closing tag from text that looks like a tag. None when the text is
    no such body, or ends amid a value.
    """
    body = TaggedBody()
    while not body.closed:
        yield from skip_blank(window)
        literal = yield from window.mark(dialect.param_marks)
        if literal in dialect.params:
            if not (yield from _read_parameter(window, dialect, literal, body, known)):
                return None
        elif literal is not None or (
            yield from window.mark(dialect.follow_marks, consume=False)
        ):
            body.closed = True
        elif (yield from window.peek()) == "{" and not body.parameters:
            start = window.offset
            if not (yield from read_bracketed(window, JSON_STYLE)):
                return None
            body.json_span = (start, window.offset)
        else:
            ended = window.pos >= len(window.text)
            return body if ended and (body.parameters or body.json_span) else None
    return body


def skip_blank(window: Window) -> Generator[None, None, None]:
    """Skip white space, and line breaks that were escaped once too often."""
    yield from window.space()
    while (yield from window.peek()) == "\\":
        if (yield from window.upto("\\n", 0)) is None:
            return
        yield from window.space()


def _read_parameter(
    window: Window,
    dialect: TagDialect,
    literal: str,
    body: TaggedBody,
    known: Collection[str],
) -> Generator[None, None, bool]:
    header = yield from window.upto(dialect.param_end, _LONGEST_TAG)
    if header is None:
        return False
    attributes = tag_attributes(literal, _own_header(dialect, header))
    seen = {one.attributes.get("name", "").strip() for one in body.parameters}
    still_open = set(known) - seen - {attributes.get("name", "").strip()}
    start = window.offset
    stop = yield from _read_value(window, dialect, body, still_open)
    if stop is None:
        return False
    body.parameters.append(TagParameter(attributes, start, stop))
    return True


def _own_header(dialect: TagDialect, header: str) -> str:
    """The header of a parameter; of a pair it is `NAME</arg_key>` and blanks.

    A pair whose value is missing stands before the next one's key: the last key counts.
    """
    if dialect.heads:
        return header
    tag = dialect.params[0].removeprefix("<")
    return header.rpartition(f"</{tag}")[0].rpartition(tag)[2]


def _read_value(
    window: Window, dialect: TagDialect, body: TaggedBody, still_open: Collection[str]
) -> Generator[None, None, int | None]:
    """Go behind a value and its closing tag; the offset where the value ends.

    A closing tag inside the value (code, documentation) is told from the value's own
    by what follows: the next parameter, the end of the call, or the end of the text.
    """
    while True:
        literal = yield from window.find(dialect.inner_marks)
        stop = window.offset
        if literal is None:
            body.open_value = True
            return None if window.truncated or not dialect.heads else stop
        if literal in dialect.params:
            if (yield from _opens_next(window, dialect, literal, still_open)):
                return _without_line_end(window, stop)
            window.pos += len(literal)
            continue
        window.pos += len(literal)
        yield from skip_blank(window)
        own = literal in dialect.value_ends
        follow = dialect.follow_marks if own else dialect.after_marks
        follows = yield from window.mark(follow, consume=False)
        if follows is not None or not (yield from window.peek()):
            body.closed = not own
            return stop if own else _without_line_end(window, stop)


def _without_line_end(window: Window, stop: int) -> int:
    """Where a value without its closing tag ends: not with the line break before."""
    return stop - 1 if window.cut(stop - 1, stop) == "\n" else stop


def _opens_next(
    window: Window, dialect: TagDialect, literal: str, still_open: Collection[str]
) -> Generator[None, None, bool]:
    """Whether a parameter tag amid a value is the next one, the value's end missing."""
    header = yield from window.upto(
        dialect.param_end, _LONGEST_TAG, start=len(literal), consume=False
    )
    if header is None:
        return False
    attributes = tag_attributes(literal, _own_header(dialect, header))
    return attributes.get("name", "").strip() in still_open


# --- shared/toolcalls/trees.py ---

_TREE_TAG = re.compile(r"\]<\]minimax\[>\[<(/?)([^<>]+)>")
_DEEPEST_TREE = 40


class _TreeNode:
    def __init__(self, name: str, start: int) -> None:
        self.name = name
        self.start = start
        self.text = ""
        self.children: list[_TreeNode] = []


def read_tree(text: str, schema: JsonSchema) -> dict[str, Any] | None:
    """The arguments in nested `<key>value</key>` tags; None when they do not nest."""
    root = _TreeNode("", 0)
    open_nodes = [root]
    for tag in _TREE_TAG.finditer(text):
        closing, name = tag.groups()
        node = open_nodes[-1]
        if not closing:
            child = _TreeNode(name, tag.end())
            node.children.append(child)
            open_nodes.append(child)
            if len(open_nodes) > _DEEPEST_TREE:
                return None
        elif name != node.name or node is root:
            return None
        else:
            node.text = text[node.start : tag.start()]
            open_nodes.pop()
    if len(open_nodes) > 1:
        return None
    value = _node_value(root, schema, schema) if root.children else {}
    return value if isinstance(value, dict) else None


def _node_value(node: _TreeNode, schema: object, root: JsonSchema) -> Any:
    if not node.children:
        if not node.text and _container_type(schema, root) in ("object", "array"):
            return {} if _container_type(schema, root) == "object" else []
        return typed_value(node.text, schema, root)
    option = next(
        (o for o in schema_options(schema, root) if "properties" in o or "items" in o),
        resolved_schema(schema, root),
    )
    names = [child.name for child in node.children]
    if _container_type(schema, root) == "array" or set(names) == {"item"}:
        items = option.get("items", {})
        return [_node_value(child, items, root) for child in node.children]
    found: dict[str, list[Any]] = {}
    for child in node.children:
        value = _node_value(child, _child_schema(option, child.name), root)
        found.setdefault(child.name, []).append(value)
    # A key that stands there again and again is a list.
    return {name: v if len(v) > 1 else v[0] for name, v in found.items()}


def _child_schema(schema: JsonSchema, name: str) -> object:
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and name in properties:
        return properties[name]
    return schema.get("additionalProperties", {})


def _container_type(schema: object, root: JsonSchema) -> object:
    return next(
        (o.get("type") for o in schema_options(schema, root) if "type" in o), None
    )


# --- shared/toolcalls/taggedcalls.py ---

_CDATA = re.compile(r"\s*<!\[CDATA\[(.*)\]\]>\s*", re.DOTALL)
_LINE_ENDS = re.compile(r"\A\r?\n|\r?\n\Z")
_TAG_ATTRIBUTES = frozenset({"name", "tool", "id", "index", "type"})


def read_tagged_call(
    state: BodyState, head: str
) -> Generator[None, None, list[FoundCall]]:
    """Read a call from behind `head`, the marker that begins its opening tag."""
    dialect = TAG_HEADS[head]
    window = state.window
    header = yield from window.upto(dialect.head_end, LONGEST_HEAD)
    if header is None:
        part = tag_attributes(head, window.text[window.pos :]).get("name", "")
        state.tool = state.find_tool(part) if window.ended else None
        return []
    attributes = tag_attributes(head, header.removesuffix("/"))
    tool = state.tool = state.find_tool(attributes.get("name", ""))
    if tool is None or attributes.keys() - _TAG_ATTRIBUTES:
        return []
    state.family = _tag_family(dialect, state.opener)
    if header.endswith("/"):
        # Build files know such elements, too.
        sure = state.opener is not None or "DSML" in head
        return state.fit(tool, {}) if sure else []
    if dialect.tree:
        return (yield from _read_nested(state, tool, dialect))
    return (yield from read_parameters(state, tool, dialect))


def _tag_family(dialect: TagDialect, opener: str | None) -> str:
    told = family_label(opener, "tags") if opener is not None else "qwen3_coder"
    # A wrapper that several notations share tells less than the notation.
    return dialect.family if told == "qwen3_coder" else told


def _read_nested(
    state: BodyState, tool: KnownTool, dialect: TagDialect
) -> Generator[None, None, list[FoundCall]]:
    start = state.window.offset
    end = yield from state.window.find(Marks(dialect.ends))
    if end is None:
        return []
    text = state.window.cut(start, state.window.offset)
    state.window.pos += len(end)
    return state.fit(tool, read_tree(text, tool.schema.root))


def read_parameters(
    state: BodyState, tool: KnownTool, dialect: TagDialect
) -> Generator[None, None, list[FoundCall]]:
    """Read the parameters of a call whose opening tag or name was read."""
    body = yield from read_tagged(state.window, dialect, tool.schema.properties)
    if body is None:
        return []
    # Only a text that ended by itself may lack closers; and where not even an opener
    # stands before the tags, every value must have its own.
    if not body.closed and state.window.truncated:
        return []
    if body.open_value and state.opener is None:
        return []
    if body.json_span is not None:
        if state.family == "qwen3_coder" and state.opener is None:
            state.family = "functionary_v31"
        text = state.window.cut(*body.json_span)
        return state.fit_first(tool, possible_values(text))
    # An empty tag amid a sentence is talk about it.
    state.strict = state.opener is None and not body.parameters
    return state.fit(tool, _typed_parameters(state, tool, dialect, body))


def _typed_parameters(
    state: BodyState, tool: KnownTool, dialect: TagDialect, body: TaggedBody
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for parameter in body.parameters:
        raw = state.window.cut(parameter.start, parameter.stop)
        # Seed's template, unlike Qwen's, puts no value on lines of its own.
        seed = state.opener is not None and state.opener.startswith("<seed:")
        raw = _own_text(raw, "pair" if seed else dialect.own_lines)
        name = _parameter_name(parameter, tool)
        if not name:
            continue
        stated = parameter.attributes
        if stated.get("string") == "true" or stated.get("type") == "string":
            values[name] = raw
        else:
            values[name] = tool.schema.typed(name, raw)
    return values


def _parameter_name(parameter: TagParameter, tool: KnownTool) -> str:
    name = parameter.attributes.get("name", "")
    plain = name.strip()
    for candidate in (name, plain, plain.strip("\"'")):
        if candidate in tool.schema.properties:
            return candidate
    return plain


def _own_text(raw: str, own_lines: str) -> str:
    """A value without the line breaks, or the CDATA frame, that its notation adds."""
    marked = _CDATA.fullmatch(raw)
    if marked is not None:
        return marked.group(1)
    if own_lines == "each":
        return _LINE_ENDS.sub("", raw)
    if own_lines == "pair" and raw[:1] == "\n" and raw[-1:] == "\n" != raw:
        return raw[1:-1]
    return raw


# --- shared/toolcalls/namedcalls.py ---

_DIGITS = re.compile(r"\d{1,6}")
_KIMI_INDEX = re.compile(r":\d{1,6}")
_CODE_TOOLS = ("python", "ipython", "code_interpreter")
_CODE_SIGNS = re.compile(r"""[=(){}\[\];|&<>$"/\\_*+]""")
_LONGEST_LINE = 2000
# Separators that tell nothing where the name had no wrapper before it.
_WEAK_SEPARATORS = frozenset({"json", "code", "```json", "```", ".call", "<|message|>"})


def read_named_call(state: BodyState) -> Generator[None, None, list[FoundCall] | None]:
    """Read a name and its arguments; None when another body follows, which counts."""
    window = state.window
    state.label("named")
    name = yield from _read_name(state)
    tool = state.tools.find(name) if name else None
    if tool is not None and state.strict and name not in _exact_names(tool):
        return []
    # Kimi's index may stand for the name.
    indexed = not name and not state.strict and (yield from _skip(window, _DIGITS))
    state.tool = tool or state.tool
    if state.opener == ">>>":
        return (yield from _read_recipient(state, tool))
    if tool is not None and (yield from window.peek()) == ":":
        yield from _skip(window, _KIMI_INDEX)
    separator = yield from _read_separators(state)
    char = yield from window.peek()
    if char == "{" and (tool is not None or indexed):
        return (yield from _read_json_arguments(state))
    if tool is None:
        return []
    if char == "(" and (state.listed or not state.strict):
        return (yield from _read_python_arguments(state, tool))
    if pair := (yield from window.mark(PAIR_HEAD_MARKS, consume=False)):
        state.label("pairs", separator)
        return (yield from read_parameters(state, tool, PAIR_HEADS[pair]))
    if state.strict:
        below = state.alone and char == "\n" and name == tool.name
        return (yield from _read_below_name(state, tool)) if below else []
    if separator == "Action Input:":
        return (yield from _read_line(state, tool))
    return (yield from _read_behind_name(state, tool, separator))


def _exact_names(tool: KnownTool) -> tuple[str, str]:
    return tool.name, f"functions.{tool.name}"


def _read_name(state: BodyState) -> Generator[None, None, str]:
    """Read the longest known name that stands here, "" when there is none."""
    window = state.window
    size = known = 0
    while True:
        if window.pos + size >= len(window.text):
            if window.ended:
                break
            yield
            continue
        spelled = window.text[window.pos : window.pos + size + 1]
        if name_key(spelled) not in state.tools.prefixes:
            break
        size += 1
        if state.tools.find(spelled) is not None:
            known = size
    spelled = window.text[window.pos : window.pos + size]
    if window.pos + size == len(window.text):
        window.starved = True
        if size > known:
            state.tool = None if state.strict else state.tools.starting_with(spelled)
            return ""
    window.pos += known
    return spelled[:known]


def _skip(window: Window, pattern: re.Pattern[str]) -> Generator[None, None, bool]:
    """Skip a short run of digits that `pattern` matches; whether there was one."""
    while len(window.text) - window.pos < 8 and not window.ended:
        if window.text[window.pos :].strip(":0123456789"):
            break
        yield
    found = pattern.match(window.text, window.pos)
    if found is not None:
        window.pos = found.end()
    elif window.ended and len(window.text) - window.pos < 8:
        window.starved = True
    return found is not None


def _read_separators(state: BodyState) -> Generator[None, None, str | None]:
    """Skip what stands between name and arguments; the mark that tells the family."""
    window = state.window
    telling: str | None = None
    while True:
        if not state.strict:
            yield from skip_blank(window)
        mark = yield from window.mark(SEPARATOR_MARKS, consume=False)
        if mark is None or (state.strict and mark in _WEAK_SEPARATORS):
            return telling
        window.pos += len(mark)
        state.strict = False
        if mark == "[CALL_ID]":
            yield from window.upto("[ARGS]", LONGEST_HEAD)
        state.fenced = state.fenced or mark.startswith("```")
        if SEPARATORS[mark] is not None and telling is None:
            telling = mark
            state.label("named", mark)


def _read_json_arguments(state: BodyState) -> Generator[None, None, list[FoundCall]]:
    window = state.window
    start = window.offset
    closed = yield from read_bracketed(window, JSON_STYLE)
    text = window.cut(start, window.offset)
    if not closed and not state.may_close(text):
        return []
    values = list(possible_values(text, close=not closed))
    if state.tool is not None:
        return state.fit_first(state.tool, values)
    for value in values:  # only an index stood there
        if tool := state.tools.by_arguments(value):
            return state.fit(tool, value)
    return []


def _read_python_arguments(
    state: BodyState, tool: KnownTool
) -> Generator[None, None, list[FoundCall]]:
    window = state.window
    state.label("python")
    start = window.offset
    if not (yield from read_bracketed(window, PYTHON_STYLE)):
        return []
    text = window.cut(start, window.offset)
    try:
        by_place, by_name = read_arguments(text, PYTHON_STYLE)
    except ValueError:
        return []
    if len(by_place) == 1 and isinstance(by_place[0], dict) and not by_name:
        return state.fit(tool, by_place[0])
    names = tool.schema.properties
    if len(by_place) > len(names) or (state.strict and by_place):
        return []
    if state.strict and any(
        isinstance(value, BareWord) and value not in names.get(name, {}).get("enum", ())
        for name, value in by_name.items()
    ):
        return []  # code that passes on variables
    return state.fit(tool, dict(zip(names, by_place, strict=False)) | by_name)


def _read_below_name(
    state: BodyState, tool: KnownTool
) -> Generator[None, None, list[FoundCall]]:
    """A name as the message's first line, its arguments or only text below."""
    window = state.window
    window.pos += 1
    start = window.offset
    char = yield from window.peek()
    if char == "{":
        state.family = "functionary_v32"
        return (yield from _read_json_arguments(state))
    state.family = "plain_line"
    if char.isspace():
        return []
    found = yield from _read_code(state, tool)
    text = window.cut(start).strip()
    return found if _is_no_word(tool.name) or _is_no_prose(text) else []


def _is_no_word(name: str) -> bool:
    """Whether a name can be no word of a text: it has a joint, a digit, capitals."""
    return not name.isalpha() or not (name.islower() or name.istitle())


def _is_no_prose(text: str) -> bool:
    return _CODE_SIGNS.search(text) is not None and text[-1:] not in ".!?"


def _read_recipient(
    state: BodyState, tool: KnownTool | None
) -> Generator[None, None, list[FoundCall]]:
    """Functionary's arguments below a name; those of a code tool are plain code."""
    window = state.window
    if tool is None or (yield from window.peek()) not in ("\n", "\r"):
        return []
    yield from window.space()
    if (yield from window.peek()) == "{":
        return (yield from _read_json_arguments(state))
    return (yield from _read_code(state, tool)) if tool.name in _CODE_TOOLS else []


def _read_code(
    state: BodyState, tool: KnownTool
) -> Generator[None, None, list[FoundCall]]:
    """All the rest of the message, for a tool that takes one text."""
    window = state.window
    parameter = only_text_parameter(tool)
    if parameter is None:
        return []
    start = window.offset
    while True:
        window.pos = len(window.text)
        if window.ended:
            break
        yield
    window.starved = True
    code = window.cut(start).strip()
    return state.fit(tool, {parameter: code}) if code and not window.truncated else []


def _read_line(
    state: BodyState, tool: KnownTool
) -> Generator[None, None, list[FoundCall]]:
    """The rest of a line, for a tool that takes one text."""
    window = state.window
    parameter = only_text_parameter(tool)
    line = yield from window.upto("\n", _LONGEST_LINE)
    if line is None and window.ended:
        line = window.text[window.pos :]
        window.pos = len(window.text)
    if parameter is None or line is None or not line.strip():
        return []
    return state.fit(tool, {parameter: line.strip()})


def _read_behind_name(
    state: BodyState, tool: KnownTool, separator: str | None
) -> Generator[None, None, list[FoundCall] | None]:
    """Another opener or tag, whose body counts; or a closer: no arguments."""
    window = state.window
    opener = yield from window.mark(OPEN_MARKS)
    if opener is not None:
        state.opener = opener
        yield from window.space()
        return None
    if (yield from window.mark(TAG_HEAD_MARKS, consume=False)) is not None:
        return None
    if (yield from window.mark(CLOSE_MARKS, consume=False)) is None:
        return []
    if state.opener == "<tool_call>":
        state.label("pairs")
    # A lone name in a wrapper, amid a sentence, is talk about the wrapper.
    state.strict = separator is None
    return state.fit(tool, {})


def read_relaxed_call(state: BodyState) -> Generator[None, None, list[FoundCall]]:
    """Read Gemma's `NAME{key:value}` or `NAME(key=value)`, from behind its `call:`."""
    window = state.window
    state.label("relaxed")
    name = yield from _read_name(state)
    tool = state.tools.find(name) if name else None
    state.tool = tool or state.tool
    bracket = yield from window.peek()
    if tool is not None and bracket == "(" and not state.strict:
        return (yield from _read_python_arguments(state, tool))
    if tool is None or bracket != "{":
        return []
    start = window.offset
    closed = yield from read_bracketed(window, GEMMA_STYLE)
    text = window.cut(start, window.offset)
    if not closed and not state.may_close(text):
        return []
    return state.fit_first(tool, possible_values(text, GEMMA_STYLE, close=not closed))


# --- shared/toolcalls/callshapes.py ---

_NAME_KEYS = ("name", "tool_name", "tool", "function", "function_name", "action")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "action_input", "params")
_OTHER_KEYS = frozenset({"id", "type", "tool_call_id", "index"})
FIRST_KEYS = frozenset(
    {*_NAME_KEYS, *_ARGUMENT_KEYS, *_OTHER_KEYS, "tool_calls", "tool_call"}
)
NAMING_KEYS = frozenset(_NAME_KEYS)

NamedArguments = tuple[str, Any]


def calls_in(value: object, *, strict: bool) -> list[NamedArguments]:
    """Names and arguments in a parsed object; [] when it is no call.

    `strict`, for objects without any wrapper, wants the arguments to be there and no
    key that a call does not have. Otherwise arguments may be missing, and an object
    may have the tool's name as its only key.
    """
    if not isinstance(value, dict):
        return []
    if isinstance(listed := value.get("tool_calls"), list):
        if strict and len(value) > 1:
            return []
        found = [calls_in(one, strict=strict) for one in listed]
        return [call for calls in found for call in calls] if all(found) else []
    for key in ("function", "tool_call"):
        if isinstance(inner := value.get(key), dict):
            if strict and value.keys() - {key} - _OTHER_KEYS:
                return []
            return calls_in(inner, strict=strict)
    return _named_call(value, strict)


def _named_call(value: dict[str, Any], strict: bool) -> list[NamedArguments]:
    name_key = next((k for k in _NAME_KEYS if isinstance(value.get(k), str)), None)
    if name_key is None:
        only = next(iter(value.items())) if len(value) == 1 and not strict else None
        return [only] if only and isinstance(only[1], dict) else []
    argument_key = next((k for k in _ARGUMENT_KEYS if k in value), None)
    if strict:
        known = {name_key, argument_key} | _OTHER_KEYS
        if argument_key is None or value.keys() - known:
            return []
    if _is_schema(value.get(argument_key or "")):
        return []  # a tool's description, not a call
    return [(value[name_key], value.get(argument_key) if argument_key else None)]


def _is_schema(arguments: object) -> bool:
    return (
        isinstance(arguments, dict)
        and arguments.get("type") == "object"
        and isinstance(arguments.get("properties"), dict)
    )


# --- shared/toolcalls/objects.py ---

_JSON_NAME = re.compile(r'"(?:tool_|function_)?(?:name|function)"\s*:\s*"([^"]*)("?)')
_KEY_NAME = re.compile(r'\{\s*"([^"]+)"\s*(?::\s*(?:\{|$)|$)')
# Pairs that may stand before the name.
_IDENTITY = re.compile(
    r'^(?:\s*"(?:id|type|tool_call_id|index)"\s*:\s*(?:"[^"\\]*"|\d+|null)\s*,)+'
)
# What a repair may read as something else.
_ODD = re.compile(r"[&\\]")


def read_object_call(state: BodyState) -> Generator[None, None, list[FoundCall]]:
    """Read an object; its calls, [] when it is none."""
    state.label("json")
    start = state.window.offset
    closed = yield from _read_object(state, start)
    if closed is None:
        return []
    text = state.window.cut(start, state.window.offset)
    _note_name(state, text)
    if not closed and not state.may_close(text):
        return []
    for value in possible_values(text, close=not closed):
        if found := state.fit_all(calls_in(value, strict=state.strict)):
            return found
    return []


def _read_object(state: BodyState, start: int) -> Generator[None, None, bool | None]:
    """Go behind an object; None as soon as it can be no call.

    That only saves holding back text: the complete object would be refused as well.
    """
    reading = read_bracketed(state.window, JSON_STYLE)
    doubtful = state.first
    while True:
        try:
            next(reading)
        except StopIteration as ended:
            return bool(ended.value)
        if doubtful:
            if _is_hopeless(state, state.window.cut(start, start + LONGEST_HEAD)):
                return None
            doubtful = state.window.offset - start < LONGEST_HEAD
        yield


def _is_hopeless(state: BodyState, text: str) -> bool:
    """Whether an object that begins like `text` names no known tool."""
    inner = _IDENTITY.sub("", text[1:]).lstrip()
    if not inner:
        return False
    if inner[0] not in "\"'":
        return state.strict or not (inner[0] in "}&" or inner[0].isalpha())
    key, closed, rest = inner[1:].partition(inner[0])
    if _ODD.search(key):
        return False
    if state.strict and not closed:
        return not any(first.startswith(key) for first in FIRST_KEYS)
    if state.strict and key not in FIRST_KEYS:
        return True
    rest = rest.lstrip()
    if rest and rest[0] != ":":
        return state.strict
    value = rest[1:].lstrip()
    naming = key in NAMING_KEYS if state.strict else key == "name"
    if not naming or value[:1] not in ('"', "'"):
        return False
    name, closed, rest = value[1:].partition(value[0])
    plain = _ODD.split(name)[0]
    if plain and name_key(plain) not in state.tools.prefixes:
        return True
    if plain != name or not closed:
        return False
    return rest.lstrip()[:1] in (",", "}") and state.tools.find(name) is None


def _note_name(state: BodyState, text: str) -> None:
    """Note the tool that a complete or cut object names."""
    named = _JSON_NAME.search(text)
    keyed = None if state.strict else _KEY_NAME.match(text)
    if keyed is not None:
        state.tool = state.tools.find(keyed.group(1))
    if state.tool is None and named is not None:
        name, whole = named.groups()
        if whole:
            state.tool = state.tools.find(name)
        elif not state.strict:
            state.tool = state.tools.starting_with(name)


# --- shared/toolcalls/bodies.py ---

_RELAXED_MARKS = Marks(["call:"])
_MOST_OPENERS = 4
_TOKEN_STARTS = ("<|", "<｜", "]<]")  # how special tokens begin


def read_body(state: BodyState) -> Generator[None, None, list[FoundCall]]:
    """The calls of the body that begins here, [] when it is none of a known tool."""
    state.trusted = any(start in (state.opener or "") for start in _TOKEN_STARTS)
    for _ in range(_MOST_OPENERS):
        found = yield from _read_one(state)
        if found is not None:
            return found
    return []


def _read_one(state: BodyState) -> Generator[None, None, list[FoundCall] | None]:
    head = yield from state.window.mark(TAG_HEAD_MARKS)
    if head is not None:
        state.strict = False
        return (yield from read_tagged_call(state, head))
    if (yield from state.window.mark(_RELAXED_MARKS)) is not None:
        return (yield from read_relaxed_call(state))
    if (yield from state.window.peek()) == "{":
        return (yield from read_object_call(state))
    return (yield from read_named_call(state))


# --- shared/toolcalls/leak.py ---

_LONGEST_INFO = 20
_FENCE_END = Marks(["```"])
_JOINTS = Marks([",", ";"])
_MINIMAX = Marks(["]<]minimax["])  # its tags begin with a bracket
_OBSERVATION = Marks(["Observation:", "Observation"])
# What goes on with a sentence, so that the call before it was an example in it.
_GOES_ON = frozenset(",.:+=*/%|&\"'!?([)}]-–—…")


# What tells a call from an example: nothing goes on with its sentence; nothing else is in
# the message; no sentence goes on behind its fence; no result follows it.
Proof = Literal["sentence", "message", "fence", "react"]


@dataclass(frozen=True, slots=True)
class Site:
    """What begins where a leak may begin: a sentence, a line, the message; thoughts."""

    sentence: bool
    line: bool
    message: bool
    thoughts: bool


class Leak:
    """Reads one run of calls from `window`, which stands where it may begin.

    `pieces` grows while `read` runs, and `done` is the offset up to which they reach.
    """

    def __init__(
        self,
        window: Window,
        tools: Toolset,
        site: Site,
        leave_out: frozenset[str],
        closers: frozenset[str],
    ) -> None:
        self.window = window
        self.pieces: list[Piece] = []
        self.done = window.offset
        self.start = window.offset
        self._reached = window.offset  # with the pieces that are kept back
        self._kept: list[Piece] = []
        self._site = site
        self._leave_out = leave_out
        self._tools = tools
        self._openers_read: list[str] = []
        self._closed: set[str] = set()
        self.closers = closers  # of wrappers that earlier calls left open
        self._no_tool = True  # the last body named none
        self._wrapped = False  # the calls stand in a wrapper
        self._sure = False  # a wrapper told that these are calls
        self._proof: Proof = "sentence"
        self._list = False  # brackets were opened
        self._open = False  # the wrapper or list has not been closed
        self._fenced = False  # nor has the fence
        self._ends = False  # the last call ends its sentence or line
        self._said: list[FoundCall] = []  # in the wrapper that is open
        self._echo: list[FoundCall] = []  # in the closed one, to be said once more

    def read(self) -> Generator[None, None, None]:
        """Read calls until there is none."""
        if (yield from self._owed_closer()) or not (yield from self._call(first=True)):
            return
        while True:
            yield from self._closers()
            alone = self._sure or (yield from self._stands_alone())
            if not (yield from self._call(first=False)):
                break
        if not self._sure and self._open:
            alone = self._starved()
        if alone or self._dangles():
            self._publish()
        if self._dangles() and self.done == self._reached:
            self._keep(Markup(self.window.cut(self._reached)))
            self._reached = self._end()
            self._publish()

    def _starved(self) -> bool:
        """Whether the text ended before the last thing that was tried could."""
        return self.window.ended and self.window.starved

    def _end(self) -> int:
        return self.window.offset + len(self.window.text) - self.window.pos

    def _dangles(self) -> bool:
        """Whether the text ended where markup of a next call had only begun."""
        rest = self.window.cut(self._reached).strip()
        return (
            self._starved() and self._no_tool and rest != "" and not rest[0].isalnum()
        )

    def _owed_closer(self) -> Generator[None, None, bool]:
        """Swallow a closer whose call was read before."""
        if not self.closers:
            return False
        mark = yield from self.window.mark(_marks_of(self.closers))
        if mark is None:
            return False
        self.closers -= {mark}
        self._keep(Markup(mark))
        self._reached = self.window.offset
        self._publish()
        return True

    def _call(self, *, first: bool) -> Generator[None, None, bool]:
        """Read one call and take it; False when there is none."""
        window = self.window
        window.starved = False
        self._no_tool = True
        if not first:
            yield from window.space()
            if (yield from window.mark(_JOINTS)) is not None:
                yield from window.space()
        openers = yield from self._openers(first)
        if openers is None:
            return False
        outer = [one for one in openers if one not in INNER_OPENERS]
        if first:
            self._proof = _needed_proof(openers, outer)
        before = self._list, self._fenced, self._open
        self._list = self._list or "[" in openers
        self._fenced = self._fenced or any(one.startswith("```") for one in openers)
        self._open = self._open or bool(openers)
        body = BodyState(
            window,
            self._tools,
            opener=next(reversed(outer or openers), None),
            strict=not (outer or (self._open and self._wrapped)),
            listed=self._list,
            first=first,
            alone=first and self._site.message,
        )
        calls = yield from read_body(body)
        if body.family in self._leave_out:
            if calls:  # or what stands in the wrapper would be found on its own
                self._keep(VisibleText(window.cut(self._reached, window.offset)))
                self._reached = window.offset
                self._publish()
            return False
        if calls:
            self._openers_read += openers
            self._wrapped = self._wrapped or bool(outer)
            if not self._is_echo(calls, bool(outer)):
                yield from self._take(calls, body)
            return True
        self._list, self._fenced, self._open = before
        self._no_tool = body.tool is None
        if window.truncated and self._starved() and body.tool is not None:
            self._keep(CutCall(body.family, window.cut(self._reached)))
            self._reached = self._end()
            self._publish()
        return False

    def _openers(self, first: bool) -> Generator[None, None, list[str] | None]:
        """The openers that stand here; None when a call may not begin with them."""
        found: list[str] = []
        while True:
            mark = yield from self.window.mark(OPEN_MARKS)
            if mark is None:
                break
            if not self._may_open(mark, first and not found):
                return None
            if mark == "```":
                info = yield from self.window.upto("\n", _LONGEST_INFO)
                if info is None or not (info.strip() or "x").isidentifier():
                    return None
            found.append(mark)
            if mark != ">>>":
                yield from self.window.space()
        if found or not self._site.thoughts:
            return found
        head = yield from self.window.mark(TAG_HEAD_MARKS, consume=False)
        return found if head == "<function=" or not first else None

    def _may_open(self, mark: str, outermost: bool) -> bool:
        rows = OPENERS[mark]
        if self._site.thoughts and not any(row.thoughts for row in rows):
            return mark == "["
        if not outermost:
            return True
        here = {"any"}
        if self._site.sentence:
            here.add("stand")
        if self._site.line:
            here.add("line")
        if self._site.message:
            here.add("start")
        return any(row.place in here for row in rows)

    def _is_echo(self, calls: list[FoundCall], wrapped: bool) -> bool:
        """Swallow calls that repeat, without an opener, those of a closed wrapper.

        LFM2 does so; nobody wants a thing to be done twice for that.
        """
        if wrapped or calls != self._echo[: len(calls)]:
            self._said += calls if wrapped or self._said else []
            self._echo = []
            return False
        del self._echo[: len(calls)]
        self._keep(Markup(self.window.cut(self._reached, self.window.offset)))
        self._reached = self.window.offset
        if self._sure:
            self._publish()
        return True

    def _take(
        self, calls: list[FoundCall], body: BodyState
    ) -> Generator[None, None, None]:
        if not body.strict and self._proof == "sentence":
            self._sure = True
        self._fenced = self._fenced or body.fenced
        sources = _sources(
            self.window.cut(self._reached, self.window.offset), len(calls)
        )
        for call, raw in zip(calls, sources, strict=True):
            self._keep(RecoveredCall(call.tool.name, call.arguments, body.family, raw))
        self._reached = self.window.offset
        self._ends = yield from self._at_sentence_end()
        if self._sure:
            self._publish()

    def _closers(self) -> Generator[None, None, None]:
        """Swallow what closes the wrapper, with the white space before it."""
        window = self.window
        while True:
            yield from window.space()
            if (closer := (yield from window.mark(CLOSE_MARKS))) is not None:
                self._open = False
                self._closed.add(closer)
                if self._said:
                    self._echo, self._said = self._said, []
            elif window.ended and CLOSE_MARKS.begins(window.text, window.pos):
                window.pos = len(window.text)
            elif self._fenced and (yield from window.mark(_FENCE_END)) is not None:
                self._fenced = self._open = False
            elif (
                self._fenced
                and window.ended
                and _FENCE_END.begins(window.text, window.pos)
            ):
                window.pos = len(window.text)
            elif (yield from self._is_stray_bracket()):
                window.pos += 1
            else:
                return
            self._keep(Markup(window.cut(self._reached, window.offset)))
            self._reached = window.offset
            if self._sure:
                self._publish()
            else:
                self._ends = yield from self._at_sentence_end()

    def _is_stray_bracket(self) -> Generator[None, None, bool]:
        """Whether a closing bracket comes that belongs to the call before it."""
        bracket = yield from self.window.peek()
        if bracket not in ("]", "}", ")"):
            return False
        cut_tag = self.window.ended and len(self.window.text) - self.window.pos > 1
        if cut_tag and _MINIMAX.begins(self.window.text, self.window.pos):
            return False
        if (yield from self.window.mark(_MINIMAX, consume=False)) is not None:
            return False
        adjacent = self.window.offset == self._reached
        if not self._open and not (adjacent and not self._sure and bracket != ")"):
            return False
        if not self._sure and bracket == "]":
            self._open = False
        return True

    def _stands_alone(self) -> Generator[None, None, bool]:
        """Whether what follows calls without a wrapper tells that they are calls."""
        window = self.window
        if self._proof == "sentence":
            return self._ends
        following = yield from window.peek()
        if self._proof == "message":
            return following == ""
        if self._proof == "fence":
            return not following.islower()
        # A model that calls stops here; in an example the result follows.
        if (yield from window.mark(_OBSERVATION)) is None:
            return True
        yield from window.space()
        return (yield from window.peek()) == ""

    def _at_sentence_end(self) -> Generator[None, None, bool]:
        char = yield from self.window.glance()
        if not char or char.isupper():
            return True
        return not (char.islower() or char.isdigit() or char in _GOES_ON)

    def left_open(self) -> frozenset[str]:
        """The closers that may still come for the calls that were read."""
        return frozenset(closers_of(self._openers_read) - self._closed | self.closers)

    def _keep(self, piece: Piece) -> None:
        self._kept.append(piece)

    def _publish(self) -> None:
        self.pieces += self._kept
        self._kept = []
        self.done = self._reached


@lru_cache(maxsize=64)
def _marks_of(closers: frozenset[str]) -> Marks:
    return Marks(closers)


def _needed_proof(openers: list[str], outer: list[str]) -> Proof:
    if outer == ["Action:"] and "```json" not in openers:
        return "react"
    if not openers or OPENERS[openers[0]][0].place == "any":
        return "sentence"
    if openers[0] == "```tool_code":
        return "fence"
    return "message" if openers[0].startswith("```") else "sentence"


def _sources(raw: str, count: int) -> list[str]:
    """`raw` cut behind each call of a `{"tool_calls": […]}` object."""
    cuts = [0]
    at = raw.find("[") + 1
    for _ in range(count - 1):
        while raw[at : at + 1] in (" ", ",", "\n", "\t"):
            at += 1
        try:
            _, at = JSONDecoder().raw_decode(raw, at)
        except ValueError:
            at += 1
        cuts.append(at)
    return [raw[a:b] for a, b in zip(cuts, [*cuts[1:], len(raw)], strict=True)]


# --- shared/toolcalls/flow.py ---

# Where something may begin or end: code, a marker, a bracket, a sentence.
_SPECIAL = re.compile(r"[`~\n<>\[\]{}.!?:;*…。！？：；]")
_SPECIAL_IN_FENCE = re.compile(r"[`~\n]")
_SENTENCE_ENDS = frozenset(">.!?:;*…。！？：；")
_QUOTES = frozenset("\"'“„«‘‚「『")
_BEFORE_CLOSING_QUOTE = frozenset(".!?…)]}")
_MARK_PAIRS = OPEN_MARKS.pairs | TAG_HEAD_MARKS.pairs
_WORD_PAIRS = {one[:2] for one in (*OPEN_MARKS.literals, "call:") if one[0].isalpha()}
_HTML_MARKS = Marks(["<code>", "</code>", "<pre>", "</pre>"])
_TAIL = 24
# A tool's result, or a line of a Python session.
_RESULT = re.compile(
    r"(?:Observation:|<\|?tool_(?:response|output)\|?>|>>> |In \[\d+\]:)\s*$"
)
# Openers of families that only talk about calls in their thoughts.
_NOT_IN_THOUGHTS = tuple(
    opener
    for opener, rows in OPENERS.items()
    if opener[0] == "<" and not any(row.thoughts for row in rows)
)
_TAG_MARKS = (OPEN_MARKS, TAG_HEAD_MARKS)
_WORD_INITIALS = {pair[0] for pair in _WORD_PAIRS}
_BLANKS = re.compile(r"[ \t]*")
_LONGEST_RUN = 100  # of backticks or tildes; a longer one counts as several


class TextFlow:
    """Follows what is shown, to tell where a call may begin and where it cannot.

    `held` is the end of the text that is not passed on yet: a run of backticks, or a
    tag that may go on. `closers` are those of wrappers whose calls were read.
    """

    def __init__(self, tools: Toolset, *, thoughts: bool) -> None:
        self.held = ""
        self.closers: frozenset[str] = frozenset()
        self._name_pairs = tools.pairs
        self._name_initials = {pair[0] for pair in tools.pairs}
        self._code = CodeTracker()
        self._sentence = True  # a sentence or line may begin here
        self._fresh = True  # the message has shown nothing yet
        self._framed = False  # the message is in a format that frames all of it
        self._thoughts = self._always_thoughts = thoughts
        self._depth = 0  # brackets open in the visible text
        self._talk = False  # this paragraph talks about markers
        self._tail = ""  # the last characters that were shown
        self._html_code = False  # in an HTML element of code, or behind a lone tag

    def passes(self, text: str) -> bool:
        """Whether nothing in `text` can matter; it is then passed on as it is."""
        if self._sentence or self.held or _SPECIAL.search(text) is not None:
            return False
        self._code.plain(text)
        self._tail = (self._tail + text)[-_TAIL:]
        return True

    def site(self) -> Site:
        """Where the text stands now."""
        return Site(
            sentence=self._sentence and not self._depth,
            line=self._code.at_line_start,
            message=self._fresh,
            thoughts=self._thoughts,
        )

    def after_calls(self, closers: frozenset[str]) -> None:
        """The text goes on behind calls that left `closers` to come."""
        self.closers = closers
        self._code.plain(".")
        self._tail = ""
        self._sentence = self._framed = True
        self._fresh = False

    def advance(
        self, text: str, at: int, refused: int, out: list[Piece], *, ended: bool
    ) -> int | None:
        """Show text from `at` on until a call may begin: where, or None at its end.

        At `refused` no call begins. What cannot be told yet is left in `held`.
        """
        begin = at
        while True:
            if self._sentence:
                word = _behind_blanks(text, at)
                self._pass_plain(text[at:word])
                at = word
                if at != refused and self._word_begins(text, at, ended):
                    self._show(text, begin, at, out)
                    return at
            deaf = self._code.in_fence and not self._thoughts
            pattern = _SPECIAL_IN_FENCE if deaf else _SPECIAL
            found = pattern.search(text, at)
            special = len(text) if found is None else found.start()
            self._pass_plain(text[at:special])
            if found is None:
                self._show(text, begin, special, out)
                return None
            if special != refused and self._may_begin(text, special, ended):
                self._show(text, begin, special, out)
                begin = special
                if not self._is_quoted():
                    return special
                if not ended and _is_marker_part(text, special):
                    self.held = text[special:]
                    return None
                self._talk = self._talk or _is_marker(text, special)
            size = self._frame_size(text, special, ended)
            if size:
                self._show(text, begin, special, out)
                out.append(Markup(text[special : special + size]))
                begin = at = special + size
                continue
            if size is not None:
                size = self._pass_special(text, special, ended)
            if not size:
                self.held = text[special:]
                self._show(text, begin, special, out)
                return None
            at = special + size

    def _show(self, text: str, start: int, stop: int, out: list[Piece]) -> None:
        if stop > start:
            out.append(VisibleText(text[start:stop]))
            self._tail = (self._tail + text[max(start, stop - _TAIL) : stop])[-_TAIL:]

    # Where a call may begin

    def _word_begins(self, text: str, at: int, ended: bool) -> bool:
        """Whether the word at the start of a sentence may open a call."""
        if self._depth or self._thoughts or self._no_calls():
            return False
        pair = text[at : at + 2]
        if len(pair) == 2 or ended:
            return pair in _WORD_PAIRS or name_key(pair) in self._name_pairs
        return pair in _WORD_INITIALS or name_key(pair) in self._name_initials

    def _no_calls(self) -> bool:
        return self._talk or self._code.in_code or self._html_code

    def _may_begin(self, text: str, at: int, ended: bool) -> bool:
        """Whether a marker or bracket at `at` may open a call."""
        char = text[at]
        if self._no_calls() or (self._thoughts and char != "<"):
            return False
        if char == "`":
            whole_run = at + 3 < len(text) or ended
            fence = text.startswith("```", at) and not text.startswith("````", at)
            return fence and whole_run and self._code.at_line_start
        if char not in "<>[]{":
            return False
        if char in "{[" and self._sentence and not self._depth:
            return True
        if char == "{":
            return False
        pair = text[at : at + 2]
        if self.closers and any(one.startswith(pair) for one in self.closers):
            return True
        return pair in _MARK_PAIRS if len(pair) == 2 else not ended

    def _is_quoted(self) -> bool:
        """Whether what follows is quoted: in quotation marks, a result, a session."""
        if _RESULT.search(self._tail) is not None:
            return True
        if self._thoughts and self._tail.rstrip().endswith(_NOT_IN_THOUGHTS):
            return True
        before, mark = self._tail[-2:-1], self._tail[-1:]
        if mark not in _QUOTES:
            return False
        closing = before.isalnum() or before in _BEFORE_CLOSING_QUOTE
        return mark not in "\"'" or not closing

    def _frame_size(self, text: str, at: int, ended: bool) -> int | None:
        """The length of a frame's marker at `at`, 0: there is none, None: wait."""
        if not (self._fresh or self._framed) or self._code.in_code:
            return 0
        if not ended and FRAME_MARKS.begins(text, at):
            return None
        mark = FRAME_MARKS.match(text, at)
        if mark is None or (mark in FRAME_ENDS and not self._framed):
            return 0
        self._framed = self._sentence = True
        return len(mark)

    # What the text was

    def _pass_plain(self, text: str) -> None:
        if text:
            self._code.plain(text)
            if not text.isspace():
                self._sentence = self._fresh = False

    def _pass_special(self, text: str, at: int, ended: bool) -> int:
        """Note a special character that begins no call; how much was read, 0: wait."""
        char = text[at]
        if char == "\n":
            if self._code.newline():
                self._depth = 0
                self._talk = False
                self._html_code = False
            self._sentence = True
            return 1
        if char in "`~":
            return self._pass_run(text, at, ended)
        if char in "<[" and (self._thoughts or not self._code.in_code):
            if not ended and THOUGHT_MARKS.begins(text, at):
                return 0
            if not ended and _HTML_MARKS.begins(text, at):
                return 0
            if (html := _HTML_MARKS.match(text, at)) is not None:
                self._html_code = not html.startswith("</")
            mark = THOUGHT_MARKS.match(text, at)
            if mark is not None:
                self._pass_thought(mark)
                return len(mark)
        self._code.plain(char)
        self._sentence = char in _SENTENCE_ENDS
        self._fresh = False
        if not self._code.in_code:
            if char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth = max(0, self._depth - 1)
        return 1

    def _pass_run(self, text: str, at: int, ended: bool) -> int:
        end = at
        while end - at < _LONGEST_RUN and text[end : end + 1] == text[at]:
            end += 1
        if end == len(text) and end - at < _LONGEST_RUN and not ended:
            return 0
        self._code.run(text[at], end - at)
        self._sentence = self._fresh = False
        return end - at

    def _pass_thought(self, mark: str) -> None:
        # Code that a thought left open ends with it, and what it talked about.
        self._code = CodeTracker()
        self._talk = False
        self._sentence = True
        opens = mark in THOUGHT_OPENERS
        self._fresh = self._fresh or not opens
        self._thoughts = self._always_thoughts or opens


def _behind_blanks(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return blanks.end() if blanks is not None else at


def _is_marker(text: str, at: int) -> bool:
    return text[at] == "<" and any(one.match(text, at) for one in _TAG_MARKS)


def _is_marker_part(text: str, at: int) -> bool:
    return text[at] == "<" and any(one.begins(text, at) for one in _TAG_MARKS)


# --- shared/toolcalls/scanner.py ---

# Text may be read again behind a false start, but no message can make that endless.
_MOST_READ_AGAIN = 400_000


class ToolCallScanner:
    """One message's scanner. Every character fed comes back in exactly one piece.

    `tools` are the request's tool specs: OpenAI's `{"type": "function", "function":
    {name, parameters}}` or bare `{name, parameters}`. `leave_out` names families that
    are not recovered. `reasoning`: the text is the model's thoughts, where only some
    families call tools.
    """

    def __init__(
        self,
        tools: Sequence[Mapping[str, Any]],
        *,
        leave_out: frozenset[str] = frozenset(),
        reasoning: bool = False,
    ) -> None:
        self._tools = make_toolset(tools)
        self._leave_out = leave_out
        self._flow = TextFlow(self._tools, thoughts=reasoning)
        self._leak: Leak | None = None
        self._reading: Generator[None, None, None] | None = None
        self._ended = self._truncated = False
        self._read_again = 0

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain now that `text` has come."""
        if not self._tools or (self._leak is None and self._flow.passes(text)):
            return [VisibleText(text)] if text else []
        out: list[Piece] = []
        self._scan(text, out)
        return out

    def finish(self, *, truncated: bool = False) -> list[Piece]:
        """The rest, at the end of the message; `truncated`: by the length limit."""
        out: list[Piece] = []
        if self._tools and not self._ended:
            self._ended = True
            self._truncated = truncated
            if self._leak is not None:
                self._leak.window.end(truncated=truncated)
            self._scan("", out)
        return out

    def _scan(self, text: str, out: list[Piece]) -> None:
        at, refused = 0, -1
        if self._leak is None:
            text = self._flow.held + text
            self._flow.held = ""
        else:
            self._leak.window.feed(text)
            if not self._read_on(self._leak, out):
                return
            text, at, refused = self._leave(self._leak)
        while True:
            if self._read_again > _MOST_READ_AGAIN:
                out += [VisibleText(text[at:])] if at < len(text) else []
                return
            start = self._flow.advance(text, at, refused, out, ended=self._ended)
            if start is None:
                return
            leak = self._enter(text, start)
            if not self._read_on(leak, out):
                return
            text, at, refused = self._leave(leak)

    def _enter(self, text: str, start: int) -> Leak:
        window = Window(text, start)
        if self._ended:
            window.end(truncated=self._truncated)
        flow = self._flow
        leak = Leak(window, self._tools, flow.site(), self._leave_out, flow.closers)
        self._leak = leak
        self._reading = leak.read()
        return leak

    def _read_on(self, leak: Leak, out: list[Piece]) -> bool:
        """Let the leak read what has come; True when it is over."""
        over = self._reading is None or next(self._reading, leak) is leak
        if leak.pieces:
            out += leak.pieces
            leak.pieces = []
        return over

    def _leave(self, leak: Leak) -> tuple[str, int, int]:
        """The text to go on with, where, and the place that began no call (or -1)."""
        self._leak = self._reading = None
        text = leak.window.cut(0)
        if leak.done > leak.start:
            self._flow.after_calls(leak.left_open())
            return text, leak.done, -1
        self._read_again += leak.window.offset - leak.start
        return text, leak.done, leak.done


def recover(
    text: str,
    tools: Sequence[Mapping[str, Any]],
    *,
    truncated: bool = False,
    leave_out: frozenset[str] = frozenset(),
    reasoning: bool = False,
) -> list[Piece]:
    """The pieces of a whole text, as streaming it in any chunks would give them."""
    scanner = ToolCallScanner(tools, leave_out=leave_out, reasoning=reasoning)
    return scanner.feed(text) + scanner.finish(truncated=truncated)


# --- shared/toolcalls/thoughts.py ---

# Thoughts are scanned for the families that call there (auto), for all (on), or not.
ThoughtScan = Literal["auto", "on", "off"]

_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")


class ThoughtStream:
    """Reads the thoughts of one choice.

    `calls` are those found so far. With `waits`, a model that goes on to answer had
    only thought of calling: `take_back` returns the calls' text to the thoughts.
    """

    def __init__(
        self,
        tools: Sequence[Mapping[str, Any]],
        leave_out: frozenset[str],
        scan: ThoughtScan,
    ) -> None:
        self.calls: list[RecoveredCall] = []
        self.waits = scan == "auto"
        self._taken: list[str] = []  # the source of the calls, markup included
        self._field = _THOUGHT_FIELDS[0]
        self._scanner: ToolCallScanner | None = None
        if scan != "off":
            self._scanner = ToolCallScanner(
                tools, leave_out=leave_out, reasoning=scan == "auto"
            )

    def read(self, delta: dict[str, Any]) -> None:
        """Take the calls out of a chunk's thoughts."""
        if self._scanner is None:
            return
        for key in _THOUGHT_FIELDS:
            text = delta.get(key)
            if isinstance(text, str) and text:
                self._field = key
                del delta[key]
                self._show(delta, self._scanner.feed(text))

    def end(self, delta: dict[str, Any], *, truncated: bool) -> None:
        """Release what is held."""
        if self._scanner is not None:
            self._show(delta, self._scanner.finish(truncated=truncated))

    def take_back(self, delta: dict[str, Any]) -> None:
        """Show the calls as the thoughts they were."""
        self._think(delta, "".join(self._taken))
        self._taken = []
        self.calls = []

    def _show(self, delta: dict[str, Any], pieces: list[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, VisibleText):
                self._think(delta, piece.text)
                continue
            self._taken.append(piece.raw)
            if isinstance(piece, RecoveredCall):
                self.calls.append(piece)

    def _think(self, delta: dict[str, Any], text: str) -> None:
        if text:
            delta[self._field] = delta.get(self._field, "") + text


# --- shared/toolcalls/options.py ---


class RecoveryOptions(BaseModel):
    """The valves of the recovery filter."""

    priority: int = Field(
        default=0,
        description="Filters run from low to high. Keep this one before filters that "
        "read the answer.",
    )
    leave_out: str = Field(
        default="",
        description="Families that are not recovered, such as pythonic, react; divided "
        "by commas or spaces.",
    )
    off_for_models: str = Field(
        default="",
        description="Models that are left alone: ids or patterns such as gpt-*, divided "
        "by commas or spaces.",
    )
    scan_thoughts: ThoughtScan = Field(
        default="auto",
        description="Recover calls from separate reasoning fields: of the families that "
        "call there (auto), of all (on), or not (off).",
    )
    show_status: bool = Field(
        default=True, description="Show a line when a call was recovered."
    )
    debug_log: bool = Field(
        default=False,
        description="Log each recovery: tool and family, never any text of the chat.",
    )

    def left_out(self) -> frozenset[str]:
        """The families that are not recovered."""
        return frozenset(_option_words(self.leave_out))

    def is_off_for(self, model: Mapping[str, Any]) -> bool:
        """Whether the admin left this model out, by its id or its name."""
        patterns = _option_words(self.off_for_models)
        names = [str(model.get(key) or "") for key in ("id", "name")]
        return any(fnmatch(name, pattern) for pattern in patterns for name in names)


def _option_words(text: str) -> list[str]:
    return text.replace(",", " ").split()


# --- shared/toolcalls/natives.py ---

Delta = dict[str, Any]

_NOTHING = frozenset({"", "{", "{}", "null"})
_MOST_OBJECTS = 50


class NativeCall:
    """One native call of a message, as its deltas came in."""

    def __init__(self) -> None:
        self.name = ""
        self.arguments = ""
        self.held: list[Delta] = []
        self.passed = False

    def add(self, delta: Delta) -> None:
        function = delta.get("function") or {}
        self.name += function.get("name") or ""
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            self.arguments += arguments
        elif arguments is not None:
            self.arguments += json.dumps(arguments)
        self.held.append(delta)

    def fits(self, tool: KnownTool) -> bool:
        try:
            return tool.schema.fits(strict_json(self.arguments or "{}"))
        except (ValueError, RecursionError):
            return False

    def release(self) -> list[Delta]:
        """The deltas that were held back; later ones pass at once."""
        held, self.held = self.held, []
        self.passed = True
        return held

    def with_arguments(self, arguments: str) -> Delta:
        """One delta of this call with other arguments."""
        first = self.held[0]
        function = {"name": self.name, "arguments": arguments}
        self.held = []
        self.passed = True
        return {**first, "type": "function", "function": function}


class NativeCalls:
    """The native calls of one message; those that look broken are held to its end."""

    def __init__(self, tools: Toolset) -> None:
        self._tools = tools
        self._calls: dict[int, NativeCall] = {}
        self._numbers: dict[int, int] = {}
        self._taken: set[int] = set()

    def number(self) -> int:
        """An index for a recovered call that no native call has."""
        index = len(self._taken)
        self._taken.add(index)
        return index

    def feed(self, deltas: list[Delta], *, suspicious: bool) -> list[Delta]:
        """The deltas that may go on now.

        A call of a tool that needs arguments waits until some have come; with
        `suspicious` (the text holds calls, too) until the end of the message.
        """
        passing: list[Delta] = []
        for delta in deltas:
            index = delta.get("index")
            if not isinstance(index, int):
                passing.append(delta)
                continue
            call = self._calls.setdefault(index, NativeCall())
            call.add(self._renumbered(delta, index))
            if call.passed or not self._must_wait(call, suspicious):
                passing += call.release()
        return passing

    def _renumbered(self, delta: Delta, index: int) -> Delta:
        if index not in self._numbers:
            free = index not in self._taken
            self._numbers[index] = index if free else len(self._taken)
            self._taken.add(self._numbers[index])
        return {**delta, "index": self._numbers[index]}

    def _must_wait(self, call: NativeCall, suspicious: bool) -> bool:
        tool = self._tools.find(call.name)
        if tool is None or tool.schema.fits({}):
            return False
        return suspicious or call.arguments.strip() in _NOTHING

    def held(self) -> list[tuple[NativeCall, KnownTool]]:
        """The calls that are still held back, each with its tool."""
        return [
            (call, tool)
            for call in self._calls.values()
            if call.held and (tool := self._tools.find(call.name)) is not None
        ]


def arguments_in_text(text: str, tool: KnownTool) -> str | None:
    """The JSON text of the last object in `text` that fits the tool and names one of
    its parameters; None when there is none."""
    known = tool.schema.properties.keys()
    fitting = [
        value
        for value in _objects_in(text)
        if known & value.keys() and tool.schema.fits(value)
    ]
    return arguments_text(fitting[-1]) if fitting else None


def _objects_in(text: str) -> Iterator[dict[str, Any]]:
    decoder = JSONDecoder()
    at = text.find("{")
    for _ in range(_MOST_OBJECTS):
        if at < 0:
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield value
        at = text.find("{", end)


# --- shared/toolcalls/choices.py ---

# Endings by which a model says that it is done; whatever else ends a text cuts it.
_WHOLE_ENDINGS = frozenset({"stop", "tool_calls", "function_call", "eos", "end_turn"})


class ChoiceStream:
    """Recovers the calls of one choice.

    Text leaves in the order it came. A call leaves with the first chunk that no text
    before it needs: Open WebUI draws a call above the text of the same chunk.
    `recovered` are the calls found so far, `fresh` those that nobody asked for yet;
    `cut_notice` stands for one that was cut.
    """

    def __init__(
        self,
        tools: Sequence[Mapping[str, Any]],
        *,
        leave_out: frozenset[str],
        thoughts: ThoughtScan,
        cut_notice: str,
    ) -> None:
        self.recovered: list[RecoveredCall] = []
        self.fresh: list[RecoveredCall] = []
        self._scanner = ToolCallScanner(tools, leave_out=leave_out)
        self._thoughts = ThoughtStream(tools, leave_out, thoughts)
        self._natives = NativeCalls(make_toolset(tools))
        self._cut_notice = cut_notice
        self._queue: list[str | RecoveredCall] = []
        self._text: list[str] = []  # all of the answer's text, as it was fed
        self._answered = False  # some of it was shown
        self._merged: set[int] = set()  # recovered calls that mended a native one

    def pass_on(self, choice: dict[str, Any]) -> bool:
        """Mend one chunk's choice in place; False when nothing is left in it.

        `choice` is `{index, delta, finish_reason}` of a chat.completion.chunk.
        """
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice["delta"] = {}
        text = delta.get("content")
        ending = choice.get("finish_reason")
        if isinstance(text, str) and text:
            self._text.append(text)
            pieces = self._scanner.feed(text)
            if len(delta) == 1 and not ending and self._is_plain(pieces, text):
                return True
            del delta["content"]
            self._enqueue(pieces)
        self._thoughts.read(delta)
        self._read_natives(delta)
        if ending:
            self._finish(delta, truncated=ending not in _WHOLE_ENDINGS)
            if self.recovered:
                choice["finish_reason"] = "tool_calls"
        else:
            self._release_next(delta)
        return bool(delta) or bool(ending)

    def end(self) -> dict[str, Any]:
        """The delta that is still owed when the stream ended without saying so."""
        delta: dict[str, Any] = {}
        self._finish(delta, truncated=True)
        return delta

    def _is_plain(self, pieces: list[Piece], text: str) -> bool:
        """Whether the chunk goes on as it came: prose, and nothing waits before it."""
        if self._queue or self._thoughts.calls or len(pieces) != 1:
            return False
        piece = pieces[0]
        if not isinstance(piece, VisibleText) or piece.text != text:
            return False
        self._answered = self._answered or not text.isspace()
        return True

    def _enqueue(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, RecoveredCall):
                self._queue.append(piece)
                self.recovered.append(piece)
                self.fresh.append(piece)
                continue
            text = piece.text if isinstance(piece, VisibleText) else ""
            if isinstance(piece, CutCall):
                text = f"\n\n{self._cut_notice}"
            if text:
                self._queue.append(text)
                self._answered = self._answered or not text.isspace()

    def _read_natives(self, delta: dict[str, Any]) -> None:
        deltas = delta.get("tool_calls")
        if isinstance(deltas, list):
            del delta["tool_calls"]
            suspicious = bool(self.recovered)
            _add_calls(delta, self._natives.feed(deltas, suspicious=suspicious))

    def _release_next(self, delta: dict[str, Any]) -> None:
        """Into the chunk: the text that is next, or the calls that are."""
        if self._thoughts.calls and self._answered and self._thoughts.waits:
            self._thoughts.take_back(delta)
        count = 0
        if self._queue:
            kind = type(self._queue[0])
            while count < len(self._queue) and type(self._queue[count]) is kind:
                count += 1
        self._release(delta, count)

    def _release(self, delta: dict[str, Any], count: int) -> None:
        leaving, self._queue = self._queue[:count], self._queue[count:]
        text = "".join(one for one in leaving if isinstance(one, str))
        if text:
            delta["content"] = text
        calls = [one for one in leaving if isinstance(one, RecoveredCall)]
        _add_calls(delta, [self._call_delta(one) for one in calls])

    def _call_delta(self, call: RecoveredCall) -> dict[str, Any]:
        return {
            "index": self._natives.number(),
            "id": f"call_{uuid.uuid4().hex[:24]}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }

    def _finish(self, delta: dict[str, Any], *, truncated: bool) -> None:
        self._thoughts.end(delta, truncated=truncated)
        self._enqueue(self._scanner.finish(truncated=truncated))
        if self._thoughts.waits and (self._answered or self.recovered):
            self._thoughts.take_back(delta)
        else:
            self._enqueue(self._thoughts.calls)
        for call, tool in self._natives.held():
            _add_calls(delta, self._mended(call, tool))
        self._release(delta, len(self._queue))

    def _mended(self, call: NativeCall, tool: KnownTool) -> list[dict[str, Any]]:
        """A native call with the arguments that stayed in the text, if they did."""
        if call.fits(tool):
            return call.release()
        for place, twin in enumerate(self.recovered):
            if twin.name == tool.name and place not in self._merged:
                self._merged.add(place)
                if twin not in self._queue:
                    return []  # it left already, as a call of its own
                self._queue.remove(twin)
                return [call.with_arguments(twin.arguments)]
        arguments = arguments_in_text("".join(self._text), tool)
        return [call.with_arguments(arguments)] if arguments else call.release()


def _add_calls(delta: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    if calls:
        delta["tool_calls"] = [*delta.get("tool_calls", ()), *calls]


# --- shared/toolcalls/cleaning.py ---

_POSSIBLE_MARKUP = ("<", "[", "{", "to=", "Action")


def clean_text(
    text: str, tools: Sequence[Mapping[str, Any]], leave_out: frozenset[str]
) -> str:
    """`text` without the leaked calls of known tools; itself when there are none."""
    if not any(mark in text for mark in _POSSIBLE_MARKUP):
        return text
    pieces = recover(text, tools, leave_out=leave_out)
    if not any(isinstance(piece, RecoveredCall | CutCall) for piece in pieces):
        return text
    kept = [piece.text for piece in pieces if isinstance(piece, VisibleText)]
    return "".join(kept).rstrip()


def clean_messages(
    messages: Sequence[dict[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    leave_out: frozenset[str],
) -> None:
    """Clean the content and the output items of an assistant's messages in place."""
    for message in messages:
        if message.get("role") != "assistant":
            continue
        content = message.get("content")
        if isinstance(content, str):
            message["content"] = clean_text(content, tools, leave_out)
        for item in message.get("output") or ():
            if isinstance(item, dict) and item.get("type") == "message":
                _clean_parts(item.get("content"), tools, leave_out)


def append_text(message: dict[str, Any], text: str) -> None:
    """Add text that a broken stream left behind to a message and its output."""
    if not text:
        return
    message["content"] = (message.get("content") or "") + text
    output = message.get("output")
    if not isinstance(output, list):
        return
    part = {"type": "output_text", "text": text}
    last = output[-1] if output else None
    if isinstance(last, dict) and last.get("type") == "message":
        last["content"] = [*(last.get("content") or ()), part]
    else:
        output.append({"type": "message", "role": "assistant", "content": [part]})


def _clean_parts(
    parts: object, tools: Sequence[Mapping[str, Any]], leave_out: frozenset[str]
) -> None:
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            part["text"] = clean_text(part["text"], tools, leave_out)


# --- shared/texts.py ---


class _Fields(dict[str, Any]):
    """Fields of a template: a missing one is left out, never an error."""

    def __missing__(self, key: str) -> str:
        return ""


def translate(
    table: Mapping[str, Mapping[str, str]],
    code: str,
    language: str,
    fields: Mapping[str, Any],
) -> str:
    """The sentence `code` of a table {code: {language: template}}.

    `language` is a BCP 47 tag such as "de-DE"; English where there is no
    translation. A `{detail}` that is empty takes its colon and brackets with it.
    """
    templates = table[code]
    template = templates.get(language.split("-")[0].lower()) or templates["en"]
    detail = str(fields.get("detail") or "")
    filled = _Fields(fields)
    filled["detail"] = f" ({detail})" if detail else ""
    for key, value in fields.items():
        if isinstance(value, float):
            filled[key] = f"{value:g}"
    return template.format_map(filled)


# --- shared/toolcalls/sentences.py ---

RECOVERY_TEXTS: dict[str, dict[str, str]] = {
    "recovered": {
        "en": "Recovered a call to {tool}",
        "de": "Aufruf von {tool} wiederhergestellt",
        "es": "Se recuperó una llamada a {tool}",
        "fr": "Appel à {tool} récupéré",
        "zh": "已恢复对 {tool} 的调用",
    },
    "cut": {
        "en": "*(A tool call was cut off by the length limit and was not run.)*",
        "de": "*(Ein Werkzeugaufruf wurde durch die Längengrenze abgeschnitten und nicht ausgeführt.)*",
        "es": "*(El límite de longitud cortó una llamada a una herramienta; no se ejecutó.)*",
        "fr": "*(Un appel d'outil a été coupé par la limite de longueur et n'a pas été exécuté.)*",
        "zh": "*（工具调用因长度限制被截断，没有执行。）*",
    },
}


def recovery_sentence(code: str, metadata: Mapping[str, Any], **fields: Any) -> str:
    """The sentence `code` in the language of the request's user."""
    variables = metadata.get("variables")
    variables = variables if isinstance(variables, Mapping) else {}
    language = str(variables.get("{{USER_LANGUAGE}}") or "en")
    return translate(RECOVERY_TEXTS, code, language, fields)


# --- shared/toolcalls/streams.py ---

_MOST_STREAMS = 500
_LONGEST_SILENCE = 900.0  # seconds; a client that is gone sends no end
# What a chunk without any news consists of.
_FRAME_KEYS = frozenset(
    {"id", "object", "created", "model", "choices", "system_fingerprint"}
    | {"service_tier", "provider", "usage", "timings"}
)


class MessageStream:
    """One round of a streamed message; `new_choice` makes the stream of each choice."""

    def __init__(self, new_choice: Callable[[], ChoiceStream]) -> None:
        self._new_choice = new_choice
        self._choices: dict[int, ChoiceStream] = {}
        self._called = False  # the last round ended with calls
        self._found: list[RecoveredCall] = []

    def pass_on(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """A chat.completion.chunk, mended in place; None when nothing is left in it."""
        left = False
        for choice in event["choices"]:
            index = choice.get("index") or 0
            if index not in self._choices and not any(
                (choice.get("delta") or {}).values()
            ):
                # Open WebUI ends the stream of a pipe once more.
                if self._called and choice.get("finish_reason"):
                    choice["finish_reason"] = "tool_calls"
                left = True
                continue
            stream = self._choices.get(index)
            if stream is None:
                stream = self._choices[index] = self._new_choice()
            left = stream.pass_on(choice) or left
            self._collect(stream)
            if choice.get("finish_reason"):
                self._called = choice["finish_reason"] == "tool_calls"
                del self._choices[index]
        news = left or event.get("usage") or event.get("timings")
        return event if news or not _FRAME_KEYS.issuperset(event) else None

    def end(self) -> list[dict[str, Any]]:
        """The choices that are owed when no chunk said that it was the last."""
        owed = []
        for index, stream in self._choices.items():
            delta = stream.end()
            self._collect(stream)
            if delta:
                reason = "tool_calls" if delta.get("tool_calls") else None
                owed.append({"index": index, "delta": delta, "finish_reason": reason})
        self._choices = {}
        return owed

    def take_found(self) -> list[RecoveredCall]:
        """The calls that were recovered since the last time."""
        found, self._found = self._found, []
        return found

    def _collect(self, stream: ChoiceStream) -> None:
        if stream.fresh:
            self._found += stream.fresh
            stream.fresh = []


class StreamStore:
    """Message streams by key, bounded in number and in the time they are silent."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._streams: OrderedDict[str, tuple[float, MessageStream]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._streams)

    def get(self, key: str) -> MessageStream | None:
        """The stream of `key`, which is thereby alive again."""
        entry = self._streams.get(key)
        if entry is None:
            return None
        now = self._clock()
        if now - entry[0] > 1:  # not for every chunk
            self._streams[key] = (now, entry[1])
            self._streams.move_to_end(key)
        return entry[1]

    def add(self, key: str, stream: MessageStream) -> None:
        """Keep a new stream; those that are abandoned, or too many, are dropped."""
        now = self._clock()
        while self._streams:
            oldest, (seen, _) = next(iter(self._streams.items()))
            if len(self._streams) < _MOST_STREAMS and now - seen < _LONGEST_SILENCE:
                break
            del self._streams[oldest]
        self._streams[key] = (now, stream)

    def pop(self, key: str) -> MessageStream | None:
        """Forget the stream of `key`."""
        entry = self._streams.pop(key, None)
        return entry[1] if entry is not None else None


# --- shared/toolcalls/recovery.py ---

ChunkEvent = dict[str, Any]

_MARK_KEY = "aqueduct_recovery_mark"
_TOOLS_KEY = "aqueduct_tool_specs"


@dataclass(slots=True)
class RecoveryCall:
    """What Open WebUI tells a hook about the request; what it leaves out is empty."""

    options: RecoveryOptions
    metadata: Mapping[str, Any]
    body: Mapping[str, Any]
    model: Mapping[str, Any]
    request: Any = None

    def key(self, event: ChunkEvent) -> str:
        """Whose stream of which message it is; API callers have no message, only the
        request and the completion's id."""
        message = self.metadata.get("message_id")
        if not message:
            message = f"{self._request_mark()}:{event.get('id')}"
        return f"{self.metadata.get('user_id')}:{message}"

    def _request_mark(self) -> str:
        """A mark of the request itself: ids of objects are used again."""
        state = getattr(self.request, "state", None)
        if state is None:
            return ""
        if not hasattr(state, _MARK_KEY):
            setattr(state, _MARK_KEY, uuid.uuid4().hex)
        return str(getattr(state, _MARK_KEY))

    def tools(self) -> list[Mapping[str, Any]]:
        """The specs of the request's tools: those sent, and those found on demand."""
        state = getattr(self.request, "state", None)
        sent = self.body.get("tools") or getattr(state, _TOOLS_KEY, None) or ()
        kept = self.metadata.get("tools") or {}
        tools = kept.values() if isinstance(kept, Mapping) else kept
        return [*sent, *(tool.get("spec", tool) for tool in tools)]

    def remember_tools(self) -> None:
        """Keep the tools of a request for its stream, which may not be told them."""
        state = getattr(self.request, "state", None)
        if state is not None:
            setattr(state, _TOOLS_KEY, list(self.body.get("tools") or ()))


def recover_event(
    event: ChunkEvent, call: RecoveryCall, streams: StreamStore
) -> tuple[ChunkEvent | None, Sequence[RecoveredCall]]:
    """A streamed event as it goes on (None: not at all), and what was recovered in it.

    Events that are no chat.completion.chunk, such as the Responses events of pipes,
    pass untouched.
    """
    choices = event.get("choices")
    if not isinstance(choices, list):
        return event, ()
    key = call.key(event)
    stream = streams.get(key)
    if stream is None:
        if not choices or (stream := _new_stream(call)) is None:
            return event, ()
        streams.add(key, stream)
    passed: ChunkEvent | None = event
    if choices:
        passed = stream.pass_on(event)
    elif event.get("usage") and not event.get("error"):
        # Usage comes last: no chunk has said that the message ended.
        event["choices"] = stream.end()
    return passed, stream.take_found()


def _new_stream(call: RecoveryCall) -> MessageStream | None:
    """A stream for a message whose tools are known and whose model is not left out."""
    options = call.options
    if options.off_for_models and options.is_off_for(call.model):
        return None
    tools = distinct_tools(call.tools())
    if not tools:
        return None
    notice = recovery_sentence("cut", call.metadata)
    return MessageStream(
        lambda: ChoiceStream(
            tools,
            leave_out=options.left_out(),
            thoughts=options.scan_thoughts,
            cut_notice=notice,
        )
    )


def distinct_tools(specs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first spec of each name."""
    found: dict[str, Mapping[str, Any]] = {}
    for spec in specs:
        name = (spec.get("function") or spec).get("name")
        if isinstance(name, str):
            found.setdefault(name, spec)
    return list(found.values())


def mend_saved(body: dict[str, Any], call: RecoveryCall, streams: StreamStore) -> None:
    """Clean an outlet's messages in place.

    What a stream still held when it broke off is added to its message; leaked markup of
    known tools is taken out of all the branch. Nothing is executed.
    """
    messages = body.get("messages") or []
    stream = streams.pop(call.key(body))
    if stream is not None:
        held = "".join(one["delta"].get("content", "") for one in stream.end())
        own = next((m for m in messages if m.get("id") == body.get("id")), None)
        if own is not None:
            append_text(own, held)
    if call.options.off_for_models and call.options.is_off_for(call.model):
        return
    tools = distinct_tools(call.tools())
    if tools:
        clean_messages(messages, tools, call.options.left_out())


# --- filters/tool_call_recovery.py ---


log = logging.getLogger("aqueduct.tool_call_recovery")

Emitter = Callable[[dict[str, Any]], Awaitable[None]]


class Filter:
    """Stream: leaked text to `delta.tool_calls`. Outlet: saved messages without it."""

    class Valves(RecoveryOptions):
        pass

    def __init__(self) -> None:
        self.valves = self.Valves()
        self._streams = StreamStore()

    async def request(
        self,
        body: dict[str, Any],
        __metadata__: Mapping[str, Any] | None = None,
        __request__: Any = None,
    ) -> dict[str, Any]:
        """The body as it came; its tools are kept for the stream of an API call."""
        self._call(__metadata__, body, None, __request__).remember_tools()
        return body

    async def stream(
        self,
        event: dict[str, Any],
        __metadata__: Mapping[str, Any] | None = None,
        __body__: Mapping[str, Any] | None = None,
        __model__: Mapping[str, Any] | None = None,
        __request__: Any = None,
        __event_emitter__: Emitter | None = None,
    ) -> dict[str, Any] | None:
        """The event with leaked calls as real ones, or None when nothing is left."""
        call = self._call(__metadata__, __body__, __model__, __request__)
        try:
            passed, found = recover_event(event, call, self._streams)
        except Exception:
            # A filter that raises loses the chunk; the text matters more.
            log.exception("A chunk could not be scanned and goes on as it is")
            return event
        for one in found:
            if call.options.debug_log:
                log.info("Recovered a call to %s (%s)", one.name, one.family)
            if call.options.show_status and call.metadata.get("message_id"):
                await _tell(__event_emitter__, call.metadata, one.name)
        return passed

    async def outlet(
        self,
        body: dict[str, Any],
        __metadata__: Mapping[str, Any] | None = None,
        __model__: Mapping[str, Any] | None = None,
        __request__: Any = None,
    ) -> dict[str, Any]:
        """The messages without leaked markup; nothing is executed."""
        call = self._call(__metadata__, None, __model__, __request__)
        try:
            # A long branch takes longer than the event loop should wait.
            await asyncio.to_thread(mend_saved, body, call, self._streams)
        except Exception:
            log.exception("The saved messages could not be cleaned")
        return body

    def _call(
        self,
        metadata: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        model: Mapping[str, Any] | None,
        request: Any,
    ) -> RecoveryCall:
        return RecoveryCall(
            self.valves, metadata or {}, body or {}, model or {}, request
        )


async def _tell(
    emitter: Emitter | None, metadata: Mapping[str, Any], tool: str
) -> None:
    if emitter is not None:
        description = recovery_sentence("recovered", metadata, tool=tool)
        await emitter(
            {"type": "status", "data": {"description": description, "done": True}}
        )
