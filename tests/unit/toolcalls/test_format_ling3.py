"""ling3: as GLM, with an end-of-role marker (Ling and Ring 3)."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

ONE = """\
<tool_call>calculator
<arg_key>expression</arg_key>
<arg_value>17 % 5 < 3</arg_value>
</tool_call>"""
MODULO = call("calculator", expression="17 % 5 < 3")


def test_a_plain_call():
    check(ONE, MODULO)


def test_the_end_of_the_role_is_not_shown():
    check(f"{ONE}<|role_end|>", MODULO)


def test_the_first_key_follows_the_name():
    check(ONE.replace("calculator\n", "calculator"), MODULO)


def test_no_arguments():
    check("<tool_call>get_time</tool_call><|role_end|>", call("get_time"))


def test_an_escaped_newline_after_the_name():
    check(ONE.replace("calculator\n", "calculator\\n"), MODULO)


def test_inside_a_thought():
    check(f"<think>Let me compute.\n{ONE}", "<think>Let me compute.", MODULO)


def test_prose_around():
    check(f"I compute.\n{ONE}\nSo.", "I compute.", MODULO, "So.")


def test_unknown_tool():
    check_untouched(ONE.replace("calculator", "oracle"))


def test_cut():
    check(ONE[:65], CUT, truncated=True)
