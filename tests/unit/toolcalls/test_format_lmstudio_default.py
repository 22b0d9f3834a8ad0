"""lmstudio_default: the fallback LM Studio teaches models without tools of their own."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = (
    '[TOOL_REQUEST]{"name": "calculator", "arguments": {"expression": "3[0]"}}'
    "[END_TOOL_REQUEST]"
)
INDEX = call("calculator", expression="3[0]")


def test_a_plain_call():
    assert_read(ONE, INDEX)


def test_several_calls_and_no_arguments():
    assert_read(
        f'{ONE}\n[TOOL_REQUEST]\n{{"name": "get_time", "arguments": {{}}}}\n'
        "[END_TOOL_REQUEST]",
        INDEX,
        call("get_time"),
    )


def test_prose_around():
    assert_read(f"I compute.\n{ONE}\nDone.", "I compute.", INDEX, "Done.")


def test_missing_closer_at_the_end():
    assert_read(ONE.removesuffix("[END_TOOL_REQUEST]"), INDEX)


def test_unknown_tool():
    assert_untouched(ONE.replace("calculator", "slide_rule"))


def test_cut():
    assert_read(ONE[:60], CUT, truncated=True)
