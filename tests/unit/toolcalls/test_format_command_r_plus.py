"""command_r_plus: `Action:` and a fence that IS a call."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
Action:
```json
[
    {
        "tool_name": "search",
        "parameters": {
            "query": "opening hours of the museum"
        }
    }
]
```"""

TWO = """\
Action:
```json
[
    {
        "tool_name": "get_time",
        "parameters": {}
    },
    {
        "tool_name": "read_file",
        "parameters": {
            "path": "/srv/hours.txt",
            "offset": 20
        }
    }
]
```"""


def test_a_plain_call():
    assert_read(ONE, call("search", query="opening hours of the museum"))


def test_several_calls_and_no_arguments():
    assert_read(
        TWO, call("get_time"), call("read_file", path="/srv/hours.txt", offset=20)
    )


def test_the_plan_is_shown():
    assert_read(
        f"Plan: First I search for the hours.\n{ONE}",
        "Plan: First I search for the hours.",
        call("search", query="opening hours of the museum"),
    )


def test_prose_after():
    assert_read(
        f"{ONE}\nLet us wait.",
        call("search", query="opening hours of the museum"),
        "Let us wait.",
    )


def test_without_an_action_line_a_fence_in_prose_is_an_example():
    assert_untouched(
        "An action is written as follows.\n" + ONE.removeprefix("Action:\n") + "\nSo."
    )


def test_unknown_tool():
    assert_untouched(ONE.replace('"search"', '"directly_answer"'))


def test_cut():
    assert_read(f"Plan: search.\n{ONE[:70]}", "Plan: search.", CUT, truncated=True)
