"""Tool calls in fragments, in all the ways that servers cut them."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.tool_fragments import ToolCallAssembler
from shared.events import ToolCallArgumentsDelta, ToolCallStarted
from tests.unit.backends.support import (
    PROPERTY,
    calls_of,
    check_call_events,
    chunkings,
    fragment,
)


def assemble(*deltas) -> list[tuple[str, str]]:
    """The calls that these `delta.tool_calls` make; each argument is one delta."""
    assembler = ToolCallAssembler()
    events = [event for delta in deltas for event in assembler.feed(delta)]
    events += assembler.complete()
    check_call_events(events)
    return calls_of(events)


def test_fragments_of_one_index_are_one_call():
    assert assemble(
        [fragment(index=0, id="a", name="add", arguments="")],
        [fragment(index=0, arguments='{"x"')],
        [fragment(index=0, arguments=": 1}")],
    ) == [("add", '{"x": 1}')]


def test_parallel_calls_grow_side_by_side():
    assert assemble(
        [fragment(index=0, id="a", name="add", arguments='{"x"')],
        [fragment(index=1, id="b", name="sub", arguments='{"y"')],
        [fragment(index=0, arguments=": 1}"), fragment(index=1, arguments=": 2}")],
    ) == [("add", '{"x": 1}'), ("sub", '{"y": 2}')]


def test_without_an_index_what_follows_belongs_to_the_last_call():
    assert assemble(
        [fragment(id="a", name="add", arguments='{"x"')],
        [fragment(arguments=": 1}")],
        [fragment(id="b", name="sub", arguments="{}")],
    ) == [("add", '{"x": 1}'), ("sub", "{}")]


def test_without_an_index_the_id_tells_calls_apart():
    assert assemble(
        [fragment(id="a", name="add", arguments='{"x"')],
        [fragment(id="b", name="sub", arguments='{"y"')],
        [fragment(id="a", arguments=": 1}")],
        [fragment(id="b", arguments=": 2}")],
    ) == [("add", '{"x": 1}'), ("sub", '{"y": 2}')]


def test_whole_calls_with_neither_index_nor_id():
    assert assemble(
        [fragment(name="add", arguments="{}"), fragment(name="add", arguments="{}")],
    ) == [("add", "{}"), ("add", "{}")]


def test_a_new_id_under_an_old_index_is_a_new_call():
    assert assemble(
        [fragment(index=0, id="a", name="add", arguments='{"x": 1}')],
        [fragment(index=0, id="b", name="add", arguments='{"x": 2}')],
    ) == [("add", '{"x": 1}'), ("add", '{"x": 2}')]


def test_an_id_that_changes_without_a_name_is_still_the_same_call():
    assert assemble(
        [fragment(index=0, id="a", name="add", arguments='{"x"')],
        [fragment(index=0, id="b", arguments=": 1}")],
    ) == [("add", '{"x": 1}')]


def test_a_name_repeated_in_every_fragment_is_one_call():
    assert assemble(
        [fragment(index=0, id="a", name="add", arguments='{"x"')],
        [fragment(index=0, id="a", name="add", arguments=": 1}")],
    ) == [("add", '{"x": 1}')]


def test_a_name_that_comes_after_the_arguments():
    assert assemble(
        [fragment(index=0, id="a", arguments='{"x"')],
        [fragment(index=0, name="add", arguments=": 1}")],
    ) == [("add", '{"x": 1}')]


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ({"x": "ü"}, '{"x":"ü"}'),
        ({}, "{}"),
        ("", "{}"),
        (None, "{}"),
        ("  ", "{}"),
        ([1], "[1]"),
    ],
)
def test_arguments_of_any_shape(arguments, read):
    assert assemble([fragment(index=0, id="a", name="t", arguments=arguments)]) == [
        ("t", read)
    ]


def test_a_call_without_a_function_object_yet():
    assert assemble(
        [{"index": 0, "id": "a", "type": "function", "function": None}],
        [fragment(index=0, name="add")],
    ) == [("add", "{}")]


def test_a_call_that_never_gets_a_name_is_not_told():
    assert assemble([fragment(index=0, id="a", arguments="{}")]) == []


def test_calls_without_ids_get_ids_that_differ():
    events = ToolCallAssembler().feed([fragment(index=i, name="add") for i in range(3)])
    ids = [event.call_id for event in events if isinstance(event, ToolCallStarted)]
    assert len(set(ids)) == 3
    assert all(ids)


def test_a_call_is_told_as_it_grows():
    assembler = ToolCallAssembler()
    first = assembler.feed([fragment(index=0, id="a", name="add")])
    assert first == [ToolCallStarted("a", "add")]
    assert assembler.feed([fragment(index=0, arguments="{")]) == [
        ToolCallArgumentsDelta("a", "{")
    ]


def test_after_completion_the_same_index_is_a_new_call():
    """A server that runs tools itself counts from zero in every round."""
    assembler = ToolCallAssembler()
    assembler.feed([fragment(index=0, id="a", name="add", arguments="{}")])
    assert calls_of(assembler.complete()) == [("add", "{}")]
    assembler.feed([fragment(index=0, id="b", name="sub", arguments="[]")])
    assert calls_of(assembler.complete()) == [("sub", "[]")]
    assert assembler.complete() == []


arguments = st.dictionaries(st.text("abü", min_size=1), st.text(), max_size=3)


@PROPERTY
@given(st.data(), st.lists(arguments, min_size=1, max_size=4), st.randoms())
def test_any_cutting_and_interleaving_gives_the_same_calls(data, calls, random):
    wanted = [(f"tool{i}", orjson.dumps(a).decode()) for i, a in enumerate(calls)]
    pieces = {i: data.draw(chunkings(text)) for i, (_, text) in enumerate(wanted)}
    deltas = [
        [fragment(index=i, id=f"id{i}", name=name)]
        for i, (name, _) in enumerate(wanted)
    ]
    order = [i for i, cut in pieces.items() for _ in cut]
    random.shuffle(order)
    rests = {i: iter(cut) for i, cut in pieces.items()}
    deltas += [[fragment(index=i, arguments=next(rests[i]))] for i in order]
    assert assemble(*deltas) == wanted
