"""Vectors of exchanges and of questions, by whatever model there is."""

import logging
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from shared.memory.base import Floats
from shared.memory.exchanges import Exchange
from shared.memory.wording import embedding_texts

# Texts in, one vector a text out, all of one length.
Encode = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float] | Floats]]]

# Models read a few hundred tokens; the rest of a long text is not sent to them.
MAX_EMBEDDED_CHARS = 4_000
SCALE_BYTES = 4

memory_vectors_log = logging.getLogger("aqueduct.memory.vectors")


async def exchange_vectors(
    encode: Encode, exchanges: Sequence[Exchange]
) -> list[Floats]:
    """A vector for each exchange: the mean of question's and whole's unit vectors."""
    both = [
        text[:MAX_EMBEDDED_CHARS]
        for exchange in exchanges
        for text in embedding_texts(exchange)
    ]
    distinct = list(dict.fromkeys(both))
    made = await encode(distinct)
    unit = {
        text: unit_vector(vector) for text, vector in zip(distinct, made, strict=True)
    }
    return [
        (unit[question] + unit[whole]) * np.float32(0.5)
        for question, whole in zip(both[::2], both[1::2], strict=True)
    ]


async def vectors_or_none(
    encode: Encode,
    works: Callable[[], Awaitable[bool]],
    exchanges: Sequence[Exchange],
) -> list[Floats | None]:
    """The same; None for an exchange that the model does not take, even alone.

    One rejected text must not keep those beside it from having vectors. Raises what
    `encode` raised where the model itself no longer works.
    """
    try:
        return list(await exchange_vectors(encode, exchanges))
    except Exception as error:  # any engine an admin may have set
        if len(exchanges) == 1:
            if not await works():
                raise
            # Not its message: engines repeat the text there.
            memory_vectors_log.warning(
                "Passed over, by words alone from now on: an exchange of chat %s (%s)",
                exchanges[0].chat_id,
                type(error).__name__,
            )
            return [None]
    found: list[Floats | None] = []
    for exchange in exchanges:
        found += await vectors_or_none(encode, works, [exchange])
    return found


def pack_vector(vector: Floats) -> bytes:
    """A vector as a float32, its scale, and a signed byte for each number.

    A quarter of the room that 32-bit floats take, and no cosine changes by more than
    about 0.002.
    """
    scale = np.float32(np.abs(vector).max() / 127) or np.float32(1)
    return scale.tobytes() + np.rint(vector / scale).astype(np.int8).tobytes()


def unpack_vectors(packed: bytes, count: int) -> tuple[Floats, Floats]:
    """Numbers (vectors x dimension) and scales (vectors) of `count` packed vectors."""
    rows = np.frombuffer(packed, np.uint8).reshape(count, -1)
    scales: Floats = rows[:, :SCALE_BYTES].copy().view(np.float32)[:, 0]
    return rows[:, SCALE_BYTES:].view(np.int8).astype(np.float32), scales


def unit_vector(vector: Sequence[float] | Floats) -> Floats:
    """The vector at length 1; one of zeros stays so."""
    array = np.asarray(vector, np.float32)
    length = float(np.linalg.norm(array))
    return array / length if length else array
