"""bare_name_json: a name and its arguments, the special tokens having been dropped."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = 'read_file{"path": "notes/todo.md", "offset": 3}'
TODO = call("read_file", path="notes/todo.md", offset=3)


def test_a_plain_call():
    assert_read(ONE, TODO)


def test_after_prose_on_a_line_of_its_own():
    assert_read(f"Let me open it.\n{ONE}", "Let me open it.", TODO)


def test_prose_after():
    assert_read(f"{ONE}\nI wait for the file.", TODO, "I wait for the file.")


def test_several_lines():
    assert_read(f"{ONE}\nget_time{{}}", TODO, call("get_time"))


def test_braces_in_a_string():
    assert_read(
        'bash{"command": "awk \'{print $1}\' log.txt"}',
        call("bash", command="awk '{print $1}' log.txt"),
    )


def test_part_of_a_longer_word():
    assert_untouched('my_read_file{"path": "a"}')
    assert_untouched('fs.read_file{"path": "a"}x')


@pytest.mark.parametrize(
    "text",
    [
        "search{color: red}",
        "add{1, 2}",
        'search{code="200", method="GET"} 1027',
        "bash{}",
        "The set add{a} has one element.",
    ],
)
def test_braces_that_hold_no_arguments(text):
    assert_untouched(text)


def test_unknown_tool():
    assert_untouched('write_file{"path": "notes/todo.md"}')


def test_cut():
    assert_read(f"Let me open it.\n{ONE[:25]}", "Let me open it.", CUT, truncated=True)
