"""Base64 of large files, in pieces: whole, it would keep every thread waiting.

Python's own functions hold the interpreter's lock until they are done, 80 ms for 20 MiB,
so that calling them in a thread does not help the event loop. Call these in one.
"""

import base64
import binascii

# Bytes that make whole groups of three, and their characters in groups of four.
PIECE_BYTES = 3 * 64 * 1024
PIECE_CHARS = 4 * 64 * 1024


def encode_base64(data: bytes) -> str:
    """Bytes as base64."""
    starts = range(0, len(data), PIECE_BYTES)
    pieces = [base64.b64encode(data[start : start + PIECE_BYTES]) for start in starts]
    return b"".join(pieces).decode()


def decode_base64(text: str) -> bytes:
    """The bytes of base64, also of one with line breaks; raises binascii.Error."""
    starts = range(0, len(text), PIECE_CHARS)
    pieces = (text[start : start + PIECE_CHARS] for start in starts)
    try:
        return b"".join([base64.b64decode(piece, validate=True) for piece in pieces])
    except binascii.Error:
        return base64.b64decode(text)
