"""The benchmark reads both formats and counts rightly."""

from __future__ import annotations

import pytest

from benchmarks.memory_recall import measure, read_exchanges, read_locomo, seconds_of
from tests.unit.memory.conftest import BagOfWords

TALKS = [
    ["My cat is called Ophelia.", "The bicycle has a flat tyre.", "Soup is ready."],
    ["I moved to Lisbon.", "My piano needs tuning.", "The tent has a hole."],
]
QUESTIONS = [
    [("What is the cat called?", 0), ("Which bicycle tyre is flat?", 1)],
    [("What needs tuning, the piano?", 1), ("Who moved to Lisbon?", 0)],
]


def exchanges_file():
    return [
        {
            "chat": [
                {"user": said, "assistant": "Fine.", "date": "2023-05-08", "id": n}
                for n, said in enumerate(talk)
            ],
            "questions": [
                {"question": text, "evidence": [place]} for text, place in questions
            ],
        }
        for talk, questions in zip(TALKS, QUESTIONS, strict=True)
    ]


def locomo_file():
    return [
        {
            "conversation": {
                "speaker_a": f"Ann{number}",
                "speaker_b": f"Ben{number}",
                "session_1_date_time": "1:56 pm on 8 May, 2023",
                "session_1": [
                    {"speaker": f"Ann{number}", "dia_id": f"D1:{n}", "text": said}
                    for n, said in enumerate(talk)
                ],
            },
            "qa": [
                {"question": text, "evidence": [f"D1:{place}"], "category": 4}
                for text, place in questions
            ],
        }
        for number, (talk, questions) in enumerate(zip(TALKS, QUESTIONS, strict=True))
    ]


@pytest.mark.parametrize(
    ("read", "records"),
    [(read_exchanges, exchanges_file()), (read_locomo, locomo_file())],
)
async def test_both_formats_are_measured(read, records):
    people = [read(number, record) for number, record in enumerate(records)]
    result = await measure(people, True, BagOfWords(dimension=256))
    assert result["recall"]["all"] == {
        "questions": 4,
        "R@5": 1.0,
        "R@8": 1.0,
        "R@20": 1.0,
        "MRR": 1.0,
    }
    gate = result["gate"]
    assert gate["answerable"] == {
        "questions": 4,
        "pull anything in": 1.0,
        "notes when any": 1.0,
    }
    assert gate["foreign"]["pull anything in"] == 0.0


async def test_a_question_without_its_evidence_lowers_the_figures():
    [first, second] = exchanges_file()
    first["questions"].append({"question": "Is there soup?", "evidence": [0]})
    people = [read_exchanges(n, record) for n, record in enumerate([first, second])]
    result = await measure(people, False, BagOfWords(dimension=256))
    assert result["recall"]["all"]["questions"] == 5
    assert result["recall"]["all"]["MRR"] < 1


@pytest.mark.parametrize(
    "date",
    [
        "1:56 pm on 8 May, 2023",
        "2023-05-08T13:56:00Z",
        "2023-05-08",
        "2023/05/08 (Mon) 13:56",
        "8 May 2023",
        1_683_554_160,
    ],
)
def test_dates_are_read(date):
    assert seconds_of(date) // 86_400 == 1_683_554_160 // 86_400
