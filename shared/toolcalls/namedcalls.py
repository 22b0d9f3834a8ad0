"""The bodies that begin with the tool's name as text."""

import re
from collections.abc import Generator

from shared.toolcalls.bodystate import (
    LONGEST_HEAD,
    BodyState,
    FoundCall,
    only_text_parameter,
)
from shared.toolcalls.brackets import read_bracketed
from shared.toolcalls.dialects import PAIR_HEAD_MARKS, PAIR_HEADS, TAG_HEAD_MARKS
from shared.toolcalls.families import (
    CLOSE_MARKS,
    OPEN_MARKS,
    SEPARATOR_MARKS,
    SEPARATORS,
)
from shared.toolcalls.repair import possible_values
from shared.toolcalls.styles import GEMMA_STYLE, JSON_STYLE, PYTHON_STYLE
from shared.toolcalls.taggedcalls import read_parameters
from shared.toolcalls.tags import skip_blank
from shared.toolcalls.toolset import KnownTool, name_key
from shared.toolcalls.values import BareWord, read_arguments
from shared.toolcalls.window import Window

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
