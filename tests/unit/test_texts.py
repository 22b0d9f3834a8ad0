"""Sentences: every one in every language, with the same fields, and none missing."""

import ast
import re
import string
from pathlib import Path

import pytest

from shared.agents.service import PIPE_TEXTS
from shared.texts import translate

LANGUAGES = {"en", "de", "es", "fr", "zh"}
PIPE = ("errors.py", "backends/*.py", "agents/*.py", "render/*.py")
SHARED = Path(__file__).parents[2] / "shared"

TABLE = {
    "hello": {"en": "Hello {name}.{detail}", "de": "Hallo {name}.{detail}"},
    "wait": {"en": "Wait {seconds} s."},
}


def fields_of(template):
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


@pytest.mark.parametrize("code", PIPE_TEXTS)
def test_a_sentence_is_there_in_every_language_with_the_same_fields(code):
    sentences = PIPE_TEXTS[code]
    assert set(sentences) == LANGUAGES
    assert all(sentences.values())
    assert {frozenset(fields_of(text)) for text in sentences.values()} == {
        frozenset(fields_of(sentences["en"]))
    }


@pytest.mark.parametrize("code", PIPE_TEXTS)
@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_a_sentence_is_filled_and_ends_like_one(code, language):
    fields = {
        name: f"<{name}>" for name in fields_of(PIPE_TEXTS[code]["en"]) - {"detail"}
    }
    filled = translate(PIPE_TEXTS, code, language, fields)
    assert not re.search(r"[{}]", filled)
    assert "  " not in filled
    for value in fields.values():
        assert value in filled


def raised_codes():
    """The codes of all errors and failures that the pipe's core can give."""
    names = re.compile(r"^(Upstream\w+|AqueductError|ConfigurationError|Failed)$")
    for pattern in PIPE:
        for path in sorted(SHARED.glob(pattern)):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and names.match(node.func.id)
                    and node.args
                    and isinstance(node.args[0], ast.Constant)
                ):
                    yield node.args[0].value


def test_every_error_that_can_be_raised_has_its_sentence():
    codes = set(raised_codes())
    assert {"said_error", "unreadable", "internal"} <= codes
    assert codes <= set(PIPE_TEXTS)


def test_a_language_of_the_table():
    assert translate(TABLE, "hello", "de", {"name": "Ada"}) == "Hallo Ada."


@pytest.mark.parametrize("language", ["de-DE", "DE", "de-Latn-AT"])
def test_a_region_does_not_matter(language):
    assert translate(TABLE, "hello", language, {"name": "Ada"}) == "Hallo Ada."


@pytest.mark.parametrize("language", ["", "xx", "pt-BR", "fr"])
def test_english_where_there_is_no_translation(language):
    assert translate(TABLE, "hello", language, {"name": "Ada"}) == "Hello Ada."


def test_the_servers_own_words_stand_in_brackets():
    fields = {"name": "Ada", "detail": "no {room}"}
    assert translate(TABLE, "hello", "en", fields) == "Hello Ada. (no {room})"


@pytest.mark.parametrize("detail", ["", None])
def test_without_words_there_are_no_brackets(detail):
    fields = {"name": "Ada", "detail": detail}
    assert translate(TABLE, "hello", "en", fields) == "Hello Ada."


def test_a_missing_field_is_no_error():
    assert translate(TABLE, "hello", "en", {}) == "Hello ."


@pytest.mark.parametrize(("seconds", "said"), [(5.0, "5"), (0.25, "0.25"), (17, "17")])
def test_numbers_are_written_as_people_write_them(seconds, said):
    fields = {"seconds": seconds}
    assert translate(TABLE, "wait", "en", fields) == f"Wait {said} s."


def test_the_fields_are_not_changed():
    fields = {"name": "Ada", "seconds": 5.0}
    translate(TABLE, "hello", "en", fields)
    assert fields == {"name": "Ada", "seconds": 5.0}
