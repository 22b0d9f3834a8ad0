"""ling3: as GLM, with an end-of-role marker (Ling and Ring 3)."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
<tool_call>calculator
<arg_key>expression</arg_key>
<arg_value>17 % 5 < 3</arg_value>
</tool_call>"""
MODULO = call("calculator", expression="17 % 5 < 3")


def test_a_plain_call():
    assert_read(ONE, MODULO)


def test_the_end_of_the_role_is_not_shown():
    assert_read(f"{ONE}<|role_end|>", MODULO)


def test_the_first_key_follows_the_name():
    assert_read(ONE.replace("calculator\n", "calculator"), MODULO)


def test_no_arguments():
    assert_read("<tool_call>get_time</tool_call><|role_end|>", call("get_time"))


def test_an_escaped_newline_after_the_name():
    assert_read(ONE.replace("calculator\n", "calculator\\n"), MODULO)


def test_inside_a_thought():
    assert_read(f"<think>Let me compute.\n{ONE}", "<think>Let me compute.", MODULO)


def test_prose_around():
    assert_read(f"I compute.\n{ONE}\nSo.", "I compute.", MODULO, "So.")


def test_unknown_tool():
    assert_untouched(ONE.replace("calculator", "oracle"))


def test_cut():
    assert_read(ONE[:65], CUT, truncated=True)
