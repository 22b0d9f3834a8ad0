"""The bodies in tags: which tool the tag names, and its parameters typed."""

import re
from collections.abc import Generator
from typing import Any

from shared.toolcalls.bodystate import LONGEST_HEAD, BodyState, FoundCall
from shared.toolcalls.dialects import TAG_HEADS, TagDialect, tag_attributes
from shared.toolcalls.families import family_label
from shared.toolcalls.repair import possible_values
from shared.toolcalls.tags import TaggedBody, TagParameter, read_tagged
from shared.toolcalls.toolset import KnownTool
from shared.toolcalls.trees import read_tree
from shared.toolcalls.window import Marks

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
