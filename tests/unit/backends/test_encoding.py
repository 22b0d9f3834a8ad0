"""Base64 in pieces gives what Python's own gives at once."""

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.encoding import (
    PIECE_BYTES,
    PIECE_CHARS,
    decode_base64,
    encode_base64,
)

# Bytes around the borders of one and two pieces, and far from them.
LENGTHS = st.one_of(
    st.integers(0, 10),
    *(st.integers(n * PIECE_BYTES - 4, n * PIECE_BYTES + 4) for n in (1, 2)),
)


@given(length=LENGTHS, seed=st.binary(min_size=1, max_size=50))
def test_there_and_back(length, seed):
    data = (seed * (length // len(seed) + 1))[:length]
    text = encode_base64(data)
    assert text == base64.b64encode(data).decode()
    assert decode_base64(text) == data


def test_line_breaks_do_no_harm():
    data = bytes(range(256)) * (PIECE_CHARS // 256)
    assert decode_base64(base64.encodebytes(data).decode()) == data


def test_what_is_no_base64_is_an_error():
    with pytest.raises(binascii.Error):
        decode_base64("a")
