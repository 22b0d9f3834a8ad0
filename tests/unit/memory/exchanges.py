"""Exchanges to store, told short."""

from __future__ import annotations

from shared.memory.exchanges import Exchange

MAY_8 = 1_683_554_160


def said(
    question: str,
    answer: str = "I see.",
    *,
    chat: str = "chat",
    number: int = 0,
    speaker: str = "Ada",
) -> Exchange:
    return Exchange(
        chat_id=chat,
        question_id=f"{chat}-q{number}",
        answer_id=f"{chat}-a{number}",
        question=question,
        answer=answer,
        asked_at=MAY_8 + number,
        speaker=speaker,
        model="a-model",
    )


CAT = said("My cat is called Ophelia.", "A fine name for a cat.", chat="cats")
BIKE = said("My bicycle has a flat tyre.", "Patch the tube.", chat="bikes")
SOUP = said("How do I cook lentil soup?", "Simmer lentils.", chat="soups")
