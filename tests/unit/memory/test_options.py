"""Bars and texts."""

from __future__ import annotations

import string

import pytest

from shared.memory.options import MemoryOptions, is_barred
from shared.memory.texts import MEMORY_TEXTS


@pytest.mark.parametrize(
    ("options", "model", "barred"),
    [
        ({}, {"id": "gpt-5"}, False),
        ({"barred_models": "gpt-*, o3"}, {"id": "GPT-5"}, True),
        ({"barred_models": "gpt-*, o3"}, {"id": "o3-mini"}, False),
        (
            {"barred_models": "gpt-5"},
            {"id": "pirate", "info": {"base_model_id": "gpt-5"}},
            True,
        ),
        (
            {"bar_external_models": True},
            {"id": "x", "connection_type": "external"},
            True,
        ),
        ({"bar_external_models": True}, {"id": "x", "connection_type": "local"}, False),
        ({"bar_external_models": True}, {"id": "x"}, False),
    ],
)
def test_bars(options, model, barred):
    assert is_barred(MemoryOptions(**options), model) is barred


def test_every_sentence_exists_in_every_language_with_the_same_fields():
    def fields(text):
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    for code, texts in MEMORY_TEXTS.items():
        assert set(texts) == {"en", "de", "es", "fr", "zh"}, code
        assert len({frozenset(fields(text)) for text in texts.values()}) == 1, code
