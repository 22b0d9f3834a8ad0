"""The agent's own tools: calculator, clock, search, pictures."""

import base64
import struct

import pytest

from demo.arithmetic import CalculatorError, calculate, find_expression
from demo.clock import asks_for_time, find_zone, read_clock
from demo.conversation import Attachment
from demo.pictures import describe, draw, image_size
from demo.search import DocSearch, split_sections
from tests.unit.demo.conftest import NOW


@pytest.mark.parametrize(
    ("sentence", "expression"),
    [
        ("What is 17 × (23 + 4)?", "17 * (23 + 4)"),
        ("what's 15% of 80?", "15 / 100 * 80"),
        ("how much is 3 times 4, please", "3 * 4"),
        ("2^10", "2**10"),
        ("sqrt(2)*3 is what", "sqrt(2)*3"),
        ("7-2", "7-2"),
        ("what was on 2024-05-01?", None),
        ("my number is 555-1234", None),
        ("I have 3 cats", None),
        ("", None),
    ],
)
def test_finds_the_expression(sentence: str, expression: str | None) -> None:
    assert find_expression(sentence) == expression


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("17 * (23 + 4)", "459"),
        ("15 / 100 * 80", "12"),
        ("1 / 3", "0.333333333333"),
        ("-2 ** 2", "-4"),
        ("2 ** 100", str(2**100)),
        ("max(1, sqrt(16))", "4"),
        ("7 // 2 + 7 % 2", "4"),
    ],
)
def test_calculates(expression: str, result: str) -> None:
    assert calculate(expression) == result


@pytest.mark.parametrize(
    "expression",
    [
        "1 / 0",
        "9 ** 9 ** 9",
        "10.0 ** 400",
        "sqrt(-1)",
        "(-8) ** 0.5",
        "2 +",
        "__import__('os')",
        "().__class__",
        "max()",
        "1" * 300,
    ],
)
def test_refuses_what_is_no_reachable_sum(expression: str) -> None:
    with pytest.raises(CalculatorError):
        calculate(expression)


@pytest.mark.parametrize(
    ("question", "zone"),
    [
        ("What time is it in Tokyo?", "Asia/Tokyo"),
        ("current time in New York", "America/New_York"),
        ("time in San Francisco", "America/Los_Angeles"),
        ("what time is it in Europe/Madrid", "Europe/Madrid"),
        ("Wie spät ist es in München or munich", "Europe/Berlin"),
        ("北京几点了", "Asia/Shanghai"),
        ("what time is it?", "UTC"),
    ],
)
def test_clock_knows_places(question: str, zone: str) -> None:
    assert asks_for_time(question)
    assert find_zone(question) == zone


def test_clock_shows_local_time() -> None:
    assert read_clock("UTC", NOW) == "Tuesday, 2 June 2026, 18:30 (UTC)"
    tokyo = "Wednesday, 3 June 2026, 03:30 (Asia/Tokyo)"
    assert read_clock("Asia/Tokyo", NOW) == tokyo


def test_search_finds_the_section(project) -> None:
    search = DocSearch(project)
    hits = search.search("How do I install it?")
    assert hits[0].section.path == "README.md"
    assert hits[0].section.anchor == "quick-start"
    assert hits[0].snippet.startswith("To install everything")
    assert [hit.section.heading for hit in search.search("forget")] == ["Forgetting"]
    assert search.search("zebra") == []


def test_search_without_docs(tmp_path) -> None:
    assert DocSearch(tmp_path).search("anything") == []


def test_a_comment_in_a_code_block_is_no_heading() -> None:
    text = "# One\n\n```bash\n# two\n```\n\n## Three\n\nbody\n"
    assert [s.heading for s in split_sections("a.md", text)] == ["One", "Three"]


def test_draws_a_png_that_depends_on_the_words() -> None:
    assert image_size(draw("a sunrise")) == ("PNG", 320, 200)
    assert draw("a sunrise") == draw("a sunrise") != draw("a storm")


def test_describes_attachments() -> None:
    data = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08" + struct.pack(
        ">HH", 48, 64
    )
    jpeg = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    assert describe(Attachment("image", jpeg)) == "64x48 JPEG"
    assert describe(Attachment("image", "data:image/webp;base64,AAAA")) == (
        "an image of type image/webp"
    )
    assert "http://x/y.png" in describe(Attachment("image", "http://x/y.png"))
    report = Attachment("file", "data:text/plain;base64,aGVsbG8=", "report.txt")
    assert describe(report) == "report.txt (5 bytes)"
