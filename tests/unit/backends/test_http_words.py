"""Small readers of what servers say beside their answers."""

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.backends.http import Endpoint, new_http_client, shown_detail
from shared.backends.payloads import error_detail
from shared.backends.refusals import parse_retry_after
from tests.unit.backends.support import PROPERTY

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "detail", "message", "msg", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"error": {"message": "no room", "type": "x"}}, "no room"),
        ({"error": "no room"}, "no room"),
        ({"detail": "no room"}, "no room"),
        ({"detail": [{"loc": ["body"], "msg": "no room"}]}, "no room"),
        ({"message": "no room"}, "no room"),
        ([{"error": {"message": "no room"}}], "no room"),
        ("no\n  room\t", "no room"),
        ({"error": {}}, ""),
        ({"error": None}, ""),
        ({}, ""),
        (None, ""),
        (7, ""),
    ],
)
def test_the_servers_own_words(payload, words):
    assert error_detail(payload) == words


@PROPERTY
@given(json_values)
def test_no_json_brings_it_down_or_makes_it_long(payload):
    words = error_detail(payload)
    assert isinstance(words, str)
    assert len(words) <= 301


def test_long_words_are_clipped():
    endpoint = Endpoint("Scout", "http://host/v1")
    assert shown_detail("x" * 1000, endpoint) == "x" * 300 + "…"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0), ("120", 120), (" 5 ", 5), ("", None), (None, None), ("soon", None)],
)
def test_when_to_come_back(value, seconds):
    assert parse_retry_after(value) == seconds


@PROPERTY
@given(st.text(st.characters(max_codepoint=255)))
@example("²")
@example("9" * 5000)
@example("Mon, 01 Jan 0001 00:00:00 -0000")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
def test_no_header_brings_it_down(value):
    seconds = parse_retry_after(value)
    assert seconds is None or seconds >= 0


async def test_no_cookie_is_kept_for_the_next_user():
    async def upstream(scope, receive, send):
        cookies = [(b"set-cookie", b"sid=5")]
        await send({"type": "http.response.start", "status": 200, "headers": cookies})
        body = dict(scope["headers"]).get(b"cookie", b"none")
        await send({"type": "http.response.body", "body": body})

    async with new_http_client() as client:
        client._transport = httpx.ASGITransport(upstream)
        for _ in range(2):
            assert (await client.get("http://agent/")).text == "none"
