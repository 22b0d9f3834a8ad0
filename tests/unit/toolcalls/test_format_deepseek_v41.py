"""deepseek_v41: DSML tags with a space after the bar."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
<｜DSML｜ calls>
<｜DSML｜ invoke name="calculator">
<｜DSML｜ parameter name="expression" string="true">sqrt(2) / 3</｜DSML｜ parameter>
</｜DSML｜ invoke>
</｜DSML｜ calls>"""

TWO = """\
<｜DSML｜ calls>
<｜DSML｜ invoke name="get_time">
</｜DSML｜ invoke>
<｜DSML｜ invoke name="add">
<｜DSML｜ parameter name="a" string="false">7</｜DSML｜ parameter>
<｜DSML｜ parameter name="b" string="false">-7</｜DSML｜ parameter>
</｜DSML｜ invoke>
</｜DSML｜ calls>"""


def test_a_plain_call():
    assert_read(ONE, call("calculator", expression="sqrt(2) / 3"))


def test_several_calls_and_no_arguments():
    assert_read(TWO, call("get_time"), call("add", a=7, b=-7))


def test_prose_around():
    assert_read(
        f"I compute.\n{ONE}\nThere.",
        "I compute.",
        call("calculator", expression="sqrt(2) / 3"),
        "There.",
    )


def test_wrapper_missing():
    inner = "\n".join(ONE.splitlines()[1:-1])
    assert_read(inner, call("calculator", expression="sqrt(2) / 3"))


def test_unknown_tool():
    assert_untouched(ONE.replace("calculator", "abacus"))


def test_cut():
    assert_read(f"I compute.\n{ONE[:110]}", "I compute.", CUT, truncated=True)
