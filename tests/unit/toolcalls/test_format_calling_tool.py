"""calling_tool: a sentence in brackets, the name and JSON in parentheses."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = '[Calling tool: bash({"command": "ls *.md | grep -v \\")\\""})]'
LIST = call("bash", command='ls *.md | grep -v ")"')


def test_a_plain_call():
    assert_read(ONE, LIST)


def test_several_calls_and_no_arguments():
    assert_read(f"{ONE}\n[Calling tool: get_time({{}})]", LIST, call("get_time"))


def test_prose_around():
    assert_read(f"I list them.\n{ONE}\nSo.", "I list them.", LIST, "So.")


def test_talk_of_a_call():
    assert_untouched(
        "[Calling tool: bash] took 3 s. [Calling tool: ...] is shown again."
    )


def test_unknown_tool():
    assert_untouched(ONE.replace("bash", "zsh"))


def test_cut():
    assert_read(f"I list them.\n{ONE[:35]}", "I list them.", CUT, truncated=True)
