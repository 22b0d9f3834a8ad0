"""Vectors as the file keeps them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.memory.vectors import pack_vector, unit_vector, unpack_vectors

SIZE = 16
NUMBERS = st.lists(st.integers(-1000, 1000), min_size=SIZE, max_size=SIZE)


@given(NUMBERS, NUMBERS)
def test_a_packed_vector_keeps_its_cosines(one, other):
    vector, query = unit_vector(one), unit_vector(other)
    [numbers], [scale] = unpack_vectors(pack_vector(vector), 1)
    # Each number is off by half a step at most, and a step is at most 1/127.
    assert abs(scale * (numbers @ query) - vector @ query) < np.sqrt(SIZE) / 254


def test_packed_vectors_of_a_usual_kind_differ_by_very_little():
    made = np.random.default_rng(5).standard_normal((200, 384))
    vectors = np.array([unit_vector(one) for one in made])
    numbers, scales = unpack_vectors(
        b"".join(pack_vector(one) for one in vectors), len(vectors)
    )
    exact, kept = vectors @ vectors[0], scales * (numbers @ vectors[0])
    assert np.abs(kept - exact).max() < 0.003
    assert len(pack_vector(vectors[0])) == 388
