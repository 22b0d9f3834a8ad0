"""An agent's questions: what is asked, what is remembered, and when nobody is asked."""

from functools import partial

import pytest

from shared.agents.approvals import HEAD_CHARS, TAIL_CHARS, ChatDialogs
from shared.agents.config import ApprovalSettings
from shared.agents.service import sentence_for
from shared.backends.dialogs import ApprovalRequest, UserQuestion

SAY = partial(sentence_for, "en", {"agent": "Coder"})
DENIED = {"action": "decline"}
ONCE = {"action": "accept", "content": {"allow": "once"}}
CHAT = {"action": "accept", "content": {"allow": "chat"}}
WRITE = ApprovalRequest("write", "Write notes.txt", "hello", ("notes.txt",))


class Browser:
    """A tab whose user gives these answers, one after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.forms = []
        self.statuses = []

    async def call(self, event):
        self.forms.append(event["data"])
        return self.answers.pop(0)

    async def emit(self, event):
        self.statuses.append(event["data"])


def dialogs(browser=None, grants=None, chat="c", **settings):
    return ChatDialogs(
        ApprovalSettings.model_validate(settings),
        ("u", chat, "coder"),
        SAY,
        {} if grants is None else grants,
        browser.call if browser else None,
        browser.emit if browser else None,
    )


async def test_the_form_says_what_where_and_in_full():
    browser = Browser(ONCE)
    assert await dialogs(browser).approve(WRITE)
    [form] = browser.forms
    assert form["server_name"] == "Coder asks for permission"
    assert form["message"] == "Write notes.txt\n\nnotes.txt\n\nhello"
    assert form["requestedSchema"]["properties"]["allow"]["default"] == "once"
    assert form["timeout_ms"] == 120_000


async def test_the_status_line_goes_when_the_answer_is_there():
    browser = Browser(DENIED)
    assert not await dialogs(browser).approve(WRITE)
    waiting, gone = browser.statuses
    assert waiting["description"] == "Coder waits for your permission: write"
    assert (waiting["done"], waiting["hidden"]) == (False, False)
    assert (gone["done"], gone["hidden"]) == (True, True)


@pytest.mark.parametrize(
    "answer",
    [
        DENIED,
        {"action": "cancel"},
        {"status": "cancelled", "answers": {}},
        {"error": "Client session disconnected."},
        False,
        None,
        {"action": "accept", "content": {}},
        {"action": "accept", "content": {"allow": "always"}},
    ],
)
async def test_whatever_is_no_clear_yes_is_a_no(answer):
    assert not await dialogs(Browser(answer)).approve(WRITE)


async def test_once_is_asked_again():
    browser = Browser(ONCE, DENIED)
    asked = dialogs(browser)
    assert await asked.approve(WRITE)
    assert not await asked.approve(WRITE)


async def test_what_is_allowed_for_a_chat_holds_for_that_tool_and_chat_alone():
    grants = {}
    assert await dialogs(Browser(CHAT), grants).approve(WRITE)
    assert await dialogs(Browser(), grants).approve(WRITE)
    other = ApprovalRequest("shell", "rm -r")
    assert not await dialogs(Browser(DENIED), grants).approve(other)
    assert not await dialogs(Browser(DENIED), grants, chat="d").approve(WRITE)


@pytest.mark.parametrize("chat", ["temporary:socket", "local:x", "channel:x"])
async def test_nothing_is_allowed_for_a_chat_that_is_not_saved(chat):
    grants = {}
    browser = Browser(ONCE)
    assert await dialogs(browser, grants, chat).approve(WRITE)
    allow = browser.forms[0]["requestedSchema"]["properties"]["allow"]
    assert [choice["const"] for choice in allow["oneOf"]] == ["once"]
    assert not await dialogs(Browser(CHAT), grants, chat).approve(WRITE)
    assert grants == {}


async def test_without_a_browser_nothing_is_approved():
    assert not await dialogs().approve(WRITE)
    assert await dialogs().ask(UserQuestion("Which one?")) is None


async def test_a_chat_s_permission_does_not_hold_where_the_admin_denies():
    grants = {}
    await dialogs(Browser(CHAT), grants).approve(WRITE)
    assert not await dialogs(Browser(), grants, mode="deny").approve(WRITE)


@pytest.mark.parametrize(
    ("entry", "allowed"),
    [
        ({"tool": "write"}, True),
        ({"tool": "wr*"}, True),
        ({"tool": "shell"}, False),
        ({"paths": ["*.txt"]}, True),
        ({"tool": "write", "paths": ["src/*"]}, False),
    ],
)
async def test_the_admin_s_list_allows_without_asking(entry, allowed):
    assert await dialogs(mode="deny", allow=[entry]).approve(WRITE) is allowed


@pytest.mark.parametrize(
    "paths", [(), ("src/a.py", "/etc/hosts.py"), ("src/../../etc/a.py",), ("/a.py",)]
)
async def test_an_entry_with_paths_covers_nothing_outside(paths):
    request = ApprovalRequest("write", "Write", paths=paths)
    listed = dialogs(mode="deny", allow=[{"tool": "write", "paths": ["src/*", "*.py"]}])
    assert not await listed.approve(request)


async def test_of_a_long_command_the_end_is_shown_too():
    browser = Browser(DENIED)
    command = "echo " + "x" * 9000 + "; rm -rf ~"
    await dialogs(browser).approve(ApprovalRequest("shell", command, command))
    message = browser.forms[0]["message"]
    left_out = len(command) - HEAD_CHARS - TAIL_CHARS
    assert message.count("echo x") == message.count("; rm -rf ~") == 2
    assert message.count(f"[… {left_out} characters are left out here …]") == 2
    assert len(message) < 2 * (HEAD_CHARS + TAIL_CHARS + 60)


async def test_characters_that_hide_others_are_shown():
    browser = Browser(DENIED)
    command = "rm -r a\rls\x1b[2K\u202e; b\u200b\n\techo ä 😀\r\n"
    await dialogs(browser).approve(ApprovalRequest("shell", "Run", command))
    assert browser.forms[0]["message"] == (
        "Run\n\nrm -r a\\u000dls\\u001b[2K\\u202e; b\\u200b\n\techo ä 😀\r\n"
    )


async def test_what_just_fits_is_shown_whole():
    browser = Browser(DENIED)
    detail = "x" * (HEAD_CHARS + TAIL_CHARS)
    await dialogs(browser).approve(ApprovalRequest("shell", "Run", detail))
    assert browser.forms[0]["message"] == f"Run\n\n{detail}"


async def test_a_question_gives_the_user_s_words():
    browser = Browser({"action": "accept", "content": {"answer": " Berlin "}})
    assert await dialogs(browser).ask(UserQuestion("Which city?")) == "Berlin"
    assert browser.forms[0]["message"] == "Which city?"


async def test_a_question_with_choices_offers_them():
    browser = Browser({"action": "accept", "content": {"answer": "b"}})
    assert await dialogs(browser).ask(UserQuestion("Which?", ("a", "b"))) == "b"
    answer = browser.forms[0]["requestedSchema"]["properties"]["answer"]
    assert answer["enum"] == ["a", "b"]


@pytest.mark.parametrize("said", ["", "   "])
async def test_an_empty_answer_is_none(said):
    browser = Browser({"action": "accept", "content": {"answer": said}})
    assert await dialogs(browser).ask(UserQuestion("Which?")) is None
