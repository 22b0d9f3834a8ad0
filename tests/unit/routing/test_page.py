"""The page as a document; what it shows is tested in a browser, in tests/e2e/routing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from shared.routing.page import PAGE_HTML, PAGE_POLICY, source_hash
from shared.routing.page_script import PAGE_SCRIPT
from shared.routing.page_style import PAGE_STYLE
from shared.routing.page_texts import PAGE_TEXTS

LANGUAGES = {"en", "de", "es", "fr", "zh"}


class Document(HTMLParser):
    """The attributes of all elements, and the text of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str | None]] = []
        self.code: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.attributes += attrs

    def handle_data(self, data) -> None:
        if self.cdata_elem in ("script", "style"):
            self.code.append(data)


@pytest.fixture(scope="module")
def document() -> Document:
    found = Document()
    found.feed(PAGE_HTML)
    return found


def test_nothing_is_loaded_from_elsewhere(document):
    values = [value or "" for _, value in document.attributes]
    assert not [v for v in values if "//" in v]
    addresses = re.findall(r"https?://[^\s\"'`]+", PAGE_HTML)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}, "a name, not an address"


def test_the_policy_lets_the_page_s_own_code_run_and_no_other(document):
    assert PAGE_SCRIPT in document.code
    assert PAGE_STYLE in document.code
    assert f"script-src {source_hash(PAGE_SCRIPT)};" in PAGE_POLICY
    assert f"style-src {source_hash(PAGE_STYLE)};" in PAGE_POLICY
    assert "unsafe" not in PAGE_POLICY
    # A style or a handler in an attribute would be blocked.
    names = {name for name, _ in document.attributes}
    assert not [name for name in names if name == "style" or name.startswith("on")]


def test_every_sentence_is_there_in_every_language():
    assert all(texts.keys() == LANGUAGES for texts in PAGE_TEXTS.values())


def test_translations_have_the_same_fields():
    for texts in PAGE_TEXTS.values():
        fields = {frozenset(re.findall(r"{\w+}", text)) for text in texts.values()}
        assert len(fields) == 1, texts


def test_every_sentence_that_the_script_names_exists_and_is_used():
    named = set(re.findall(r"\bt\(\"(\w+)\"", PAGE_SCRIPT))
    named |= set(re.findall(r"return \"(\w+)\";", PAGE_SCRIPT))
    quoted = set(re.findall(r"\"(\w+)\"|(\w+):", PAGE_SCRIPT))
    words = {word for pair in quoted for word in pair}
    assert named <= PAGE_TEXTS.keys()
    from_the_report = {"person", "background", "task", "refused", "expired", "open"}
    assert PAGE_TEXTS.keys() - words - named <= from_the_report
