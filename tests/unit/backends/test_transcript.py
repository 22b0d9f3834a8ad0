"""A branch as one prompt, and the files in its messages."""

import base64

from shared.backends.base import Turn
from shared.backends.transcript import message_files, message_text, transcript

PIXEL = b"\x89PNG\r\n"
IMAGE = "data:image/png;base64," + base64.b64encode(PIXEL).decode()


def said(role, content):
    return {"role": role, "content": content}


def test_a_single_message_is_given_as_it_is():
    assert transcript([said("user", "Hi")]) == "Hi"


def test_of_a_conversation_the_last_words_stand_apart():
    told = [
        said("system", "Be brief."),
        said("user", "One?"),
        said("assistant", "1"),
        said("user", "Two?"),
    ]
    assert transcript(told) == (
        "# Instructions\n\nBe brief.\n\n"
        "# The conversation so far\n\nUser: One?\n\nAssistant: 1\n\n"
        "# Now the user says\n\nTwo?"
    )


def test_messages_without_text_are_left_out():
    told = [said("assistant", None), said("user", []), said("user", "Hi")]
    assert transcript(told) == "Hi"


def test_text_parts_are_joined_and_others_passed_over():
    image = {"type": "image_url", "image_url": {"url": IMAGE}}
    parts = [{"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}]
    assert message_text(said("user", parts)) == "a\n\nb"


def test_images_and_files_are_read_from_their_data_urls():
    parts = [
        {"type": "image_url", "image_url": {"url": IMAGE}},
        {
            "type": "file",
            "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,aGk="},
        },
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.jpg"}},
    ]
    image, text, linked = message_files(said("user", parts))
    assert (image.name, image.mime_type) == ("image-1.png", "image/png")
    assert image.read() == PIXEL
    assert (text.name, text.mime_type, text.read()) == ("a.txt", "text/plain", b"hi")
    assert (linked.read(), linked.url) == (None, "https://example.org/cat.jpg")
    assert linked.mime_type == "image/jpeg"


def test_a_broken_data_url_has_no_data():
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,a"}}
    [file] = message_files(said("user", [part]))
    assert file.read() is None


BRANCH = (
    said("system", "Be brief."),
    said("user", "One?"),
    said("assistant", "1"),
    said("user", "Two?"),
)


def test_an_agent_with_a_session_hears_only_the_news():
    assert Turn(BRANCH, session={"thread_id": "t"}).news() == BRANCH[3:]


def test_an_agent_that_starts_anew_hears_everything():
    assert Turn(BRANCH).news() == BRANCH
    assert Turn(BRANCH, session={"thread_id": "t"}, forks=True).news() == BRANCH


def test_a_round_of_tools_is_news_as_a_whole():
    call = {"role": "assistant", "tool_calls": [{"id": "1"}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "x"}
    turn = Turn((*BRANCH, call, result), session={"thread_id": "t"})
    assert turn.news() == (BRANCH[3], call, result)
