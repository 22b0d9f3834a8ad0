"""Server-sent events: the same events whatever the network does to the bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.sse import MAX_LINE_BYTES, LineBuffer, ServerSentEvent, SSEDecoder
from shared.errors import UpstreamBroken
from tests.unit.backends.support import PROPERTY, chunkings, read_sse

STREAM = (
    ": keep-alive\n\n"
    'data: {"text":"Grüße, 世界 🌊"}\n\n'
    "event: note\r\ndata:first\r\ndata: second\r\n\r\n"
    "id: 7\nretry: 3000\ndata: [DONE]\n\n"
).encode()
EVENTS = [
    ServerSentEvent("", '{"text":"Grüße, 世界 🌊"}'.encode()),
    ServerSentEvent("note", b"first\nsecond"),
    ServerSentEvent("", b"[DONE]"),
]

payloads = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=40
)
line_ends = st.sampled_from(["\n", "\r\n"])


@PROPERTY
@given(chunkings(STREAM))
def test_any_chunking_gives_the_same_events(pieces):
    assert read_sse(pieces) == EVENTS


def test_one_byte_at_a_time():
    assert read_sse(STREAM[i : i + 1] for i in range(len(STREAM))) == EVENTS


@PROPERTY
@given(st.data(), st.lists(payloads, max_size=6), line_ends)
def test_any_payloads_come_back_as_they_were_sent(data, texts, end):
    stream = "".join(f"data: {text}{end}{end}" for text in texts).encode()
    pieces = data.draw(chunkings(stream))
    assert [event.data.decode() for event in read_sse(pieces)] == texts


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (b"data: whole\n\ndata: cut", [b"whole", b"cut"]),
        (b"data: whole\n\ndata: cut\n", [b"whole", b"cut"]),
        (b"data: whole", [b"whole"]),
        (b"", []),
        (b"\n\n\n", []),
    ],
    ids=["mid-line", "after-line", "one-line", "empty", "blank"],
)
def test_a_stream_without_its_last_blank_line_loses_nothing(stream, said):
    assert [event.data for event in read_sse([stream])] == said


def test_comments_ids_and_retries_say_nothing():
    stream = b": hello\n:\nid: 1\nid:2\nretry: 10\n\n: bye\n\n"
    assert read_sse([stream]) == []


def test_a_comment_inside_an_event_does_not_end_it():
    assert read_sse([b"data: a\n: still here\ndata: b\n\n"]) == [
        ServerSentEvent("", b"a\nb")
    ]


def test_only_one_space_after_the_colon_is_taken_off():
    said = [event.data for event in read_sse([b"data:  two\n\ndata:none\n\n"])]
    assert said == [b" two", b"none"]


def test_an_event_name_ends_with_its_event():
    stream = b"event: error\ndata: a\n\ndata: b\n\nevent: lost\n\ndata: c\n\n"
    names = [(event.name, event.data) for event in read_sse([stream])]
    assert names == [("error", b"a"), ("", b"b"), ("", b"c")]


def test_bare_json_is_a_line_of_its_own():
    assert read_sse([b'{"error": "no"}']) == [
        ServerSentEvent("line", b'{"error": "no"}')
    ]


def test_a_line_of_the_limit_passes_and_one_byte_more_does_not():
    line = b"x" * 100
    assert LineBuffer(limit=100).feed(line + b"\n") == [line]
    with pytest.raises(UpstreamBroken) as broken:
        LineBuffer(limit=99).feed(line + b"\n")
    assert broken.value.code == "line_too_long"
    assert broken.value.fields["limit"] == 99 / 2**20


@PROPERTY
@given(chunkings(b"short\n" + b"x" * 64 + b"\n"))
def test_a_long_line_is_refused_in_any_chunking(pieces):
    buffer = LineBuffer(limit=60)
    with pytest.raises(UpstreamBroken):
        list(map(buffer.feed, pieces))


def test_a_line_without_end_is_refused_before_it_fills_the_memory():
    buffer, piece = LineBuffer(), b"x" * (1024 * 1024)
    for _ in range(MAX_LINE_BYTES // len(piece)):
        buffer.feed(piece)
    with pytest.raises(UpstreamBroken):
        buffer.feed(piece)


def test_many_lines_may_be_longer_than_the_limit_together():
    lines = [b"x" * 50] * 10
    assert LineBuffer(limit=60).feed(b"\n".join([*lines, b""])) == lines


def test_the_decoder_forgets_an_event_it_has_told():
    decoder = SSEDecoder()
    assert decoder.feed(b"data: once") is None
    assert decoder.finish() == ServerSentEvent("", b"once")
    assert decoder.finish() is None


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: a\n\n", b"data: b\n\n"],
        [b"data: a\r\n\n", b"data: b\n\r\n"],
        [b"data: a\n", b"\n", b"data: b\n\n"],
        [b"data: ", b"a\n\n", b"\n", b"data: b\n\n"],
        [b"\xef\xbb\xbfdata: a\n\n", b":\n\n", b"data: b\n\n"],
    ],
    ids=["one-each", "mixed-ends", "end-apart", "cut", "mark-and-comment"],
)
def test_an_event_in_a_piece_of_its_own_is_the_same_event(pieces):
    assert read_sse(pieces) == [ServerSentEvent("", b"a"), ServerSentEvent("", b"b")]


def test_a_whole_event_goes_on_with_what_came_before_it():
    assert read_sse([b"event: note\n", b"data: a\n\n", b"data: b\n\n"]) == [
        ServerSentEvent("note", b"a"),
        ServerSentEvent("", b"b"),
    ]
    assert read_sse([b"data: a\n", b"data: b\n\n"]) == [ServerSentEvent("", b"a\nb")]
    assert read_sse([b"data: a", b"data: b\n\n"]) == [ServerSentEvent("", b"adata: b")]
