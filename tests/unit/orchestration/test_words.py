"""Texts in every language, and the lines that an admin may put in their place."""

from __future__ import annotations

import string

import pytest

from devkit.manifest import read_manifest
from devkit.paths import ROOT
from shared.orchestration.desk import ButtonSettings, Desk
from shared.orchestration.faces import BUTTON_NAMES, button_face
from shared.orchestration.lines import CHAT_LINES
from shared.orchestration.notices import BUTTON_NOTICES
from shared.orchestration.service import BUTTONS
from shared.orchestration.talk import Talk
from shared.orchestration.texts import BUTTON_TEXTS

LANGUAGES = {"en", "de", "es", "fr", "zh"}
ENTRIES = [
    pytest.param(entry, id=code)
    for table in (BUTTON_TEXTS, BUTTON_NOTICES, CHAT_LINES)
    for code, entry in table.items()
]


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_language_says_it_with_the_same_fields(entry):
    assert set(entry) == LANGUAGES
    assert {frozenset(fields(text)) for text in entry.values()} == {
        frozenset(fields(entry["en"]))
    }


def test_every_button_has_a_name_an_icon_and_a_form():
    assert set(BUTTONS) == set(BUTTON_NAMES)
    for button in BUTTONS:
        assert button_face(button)["icon_url"].startswith("data:image/svg+xml,")
        assert f"{button}_title" in BUTTON_TEXTS
        assert f"{button}_message" in BUTTON_TEXTS


def test_the_names_of_the_buttons_are_translated_in_the_manifest():
    [entry] = read_manifest(ROOT).select(["continue_with"])
    assert set(entry.i18n) == LANGUAGES - {"en"}
    for names in entry.i18n.values():
        assert set(names) == {"name"} | {f"actions.{key}.name" for key in BUTTONS}


def desk(language: str = "en", **lines: str) -> Desk:
    return Desk(None, ButtonSettings(lines=lines), None, language)


def test_a_line_of_the_admin_stands_in_every_language():
    own = {"handover_line": "From {previous} to {next}:"}
    line = desk("de", **own).line("handover_line", previous="A", next="B")
    assert line == "From A to B:"
    assert desk("de").line("please_continue") == "Bitte mach weiter."


TALK = Talk("a", "b", {"a": "First", "b": "Second"}, 4, "Agree", "[DONE]")


def test_the_second_model_begins_and_they_take_turns():
    assert [TALK.pair(number) for number in (1, 2, 3)] == [
        ("b", "a"),
        ("a", "b"),
        ("b", "a"),
    ]


def test_each_model_is_told_the_goal_once():
    lines = [TALK.line(desk(), number) for number in (1, 2, 3)]
    assert ["Goal: Agree" in line for line in lines] == [True, True, False]
    assert lines[0].startswith("(Second answers First, turn 1 of 4.)")


@pytest.mark.parametrize(
    ("text", "is_done"), [("ok [done]", True), ("not yet", False), ("", False)]
)
def test_a_model_is_done_when_it_says_so(text, is_done):
    assert TALK.says_done(text) is is_done


def test_without_a_phrase_nobody_is_done():
    assert not Talk("a", "b", {}, 4, "", "").says_done("anything")
