"""Vectors of exchanges and of questions, by whatever model there is."""

from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from shared.memory.base import Floats
from shared.memory.exchanges import Exchange
from shared.memory.wording import embedding_texts

# Texts in, one vector a text out, all of one length.
Encode = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float] | Floats]]]

# Models read a few hundred tokens; the rest of a long text is not sent to them.
MAX_EMBEDDED_CHARS = 4_000


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


def unit_vector(vector: Sequence[float] | Floats) -> Floats:
    """The vector at length 1; one of zeros stays so."""
    array = np.asarray(vector, np.float32)
    length = float(np.linalg.norm(array))
    return array / length if length else array
