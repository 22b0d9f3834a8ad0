"""Sources of an answer, in the shapes that servers give them."""

import pytest

from shared.backends.openai_chat import read_citation
from shared.events import Citation
from tests.unit.backends.support import chunk, citations_of, decode_chat

URL = "https://example.org/a"


@pytest.mark.parametrize(
    ("entry", "citation"),
    [
        (URL, Citation(URL, URL)),
        ({"url": URL}, Citation(URL, URL)),
        ({"url": URL, "title": "A"}, Citation(URL, "A")),
        ({"url": URL, "name": "A"}, Citation(URL, "A")),
        (
            {"type": "url_citation", "url": URL, "title": "A", "start_index": 0},
            Citation(URL, "A"),
        ),
        (
            {"type": "url_citation", "url_citation": {"url": URL, "title": "A"}},
            Citation(URL, "A"),
        ),
        (
            {"url_citation": {"url": URL, "title": "A", "content": "Said so."}},
            Citation(URL, "A", "Said so."),
        ),
        (
            {"source": {"name": "A", "url": URL}, "document": ["Said so."]},
            Citation(URL, "A", "Said so."),
        ),
    ],
)
def test_every_shape_with_an_address(entry, citation):
    assert read_citation(entry) == citation


@pytest.mark.parametrize(
    "entry", [None, 5, {}, {"title": "A"}, {"url": ""}, {"url_citation": "x"}]
)
def test_what_has_no_address_is_no_source(entry):
    assert read_citation(entry) is None


def test_open_webui_keeps_the_address_of_a_page_in_its_metadata():
    """What Open WebUI sends for a web search of its own."""
    source = {
        "source": {"type": "web_search", "name": "six", "urls": [URL]},
        "document": ["Six is even."],
        "metadata": [{"source": URL, "title": "Six"}],
    }
    [citation] = citations_of(decode_chat({"sources": [source]}))
    assert citation.url == URL
    assert citation.text == "Six is even."


@pytest.mark.parametrize("key", ["citations", "search_results", "sources"])
def test_a_list_beside_the_choices(key):
    events = decode_chat({**chunk(content="a"), key: [{"url": URL, "title": "A"}]})
    assert citations_of(events) == [Citation(URL, "A")]


def test_annotations_of_a_delta():
    note = {"type": "url_citation", "url_citation": {"url": URL, "title": "A"}}
    assert citations_of(decode_chat(chunk(annotations=[note]))) == [Citation(URL, "A")]


def test_a_list_that_comes_with_every_chunk_is_told_once():
    events = decode_chat(
        *({**chunk(content="a"), "citations": [URL, URL + "b"]} for _ in range(3))
    )
    assert [c.url for c in citations_of(events)] == [URL, URL + "b"]


def test_a_title_is_not_lost_to_a_bare_list_of_addresses():
    """Perplexity sends both."""
    events = decode_chat(
        {
            **chunk(content="a"),
            "citations": [URL],
            "search_results": [{"title": "A page", "url": URL}],
        }
    )
    assert citations_of(events) == [Citation(URL, "A page")]
