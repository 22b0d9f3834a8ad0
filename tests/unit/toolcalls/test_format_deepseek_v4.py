"""deepseek_v4: DSML tags in a tool_calls wrapper, or without one."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
<｜DSML｜tool_calls>
<｜DSML｜invoke name="read_file">
<｜DSML｜parameter name="path" string="true">src/app.rs</｜DSML｜parameter>
<｜DSML｜parameter name="offset" string="false">120</｜DSML｜parameter>
</｜DSML｜invoke>
</｜DSML｜tool_calls>"""

BARE = """\
<｜DSML｜invoke name="set_light">
<｜DSML｜parameter name="on" string="false">true</｜DSML｜parameter>
<｜DSML｜parameter name="level" string="false">0.25</｜DSML｜parameter>
</｜DSML｜invoke>"""


def test_a_plain_call():
    assert_read(ONE, call("read_file", path="src/app.rs", offset=120))


def test_several_calls_of_several_types():
    inner = "\n".join(ONE.splitlines()[1:-1])
    assert_read(
        f"<｜DSML｜tool_calls>\n{inner}\n{BARE}\n</｜DSML｜tool_calls>",
        call("read_file", path="src/app.rs", offset=120),
        call("set_light", on=True, level=0.25),
    )


def test_prose_around():
    assert_read(
        f"First the source.\n{ONE}\nThen the tests.",
        "First the source.",
        call("read_file", path="src/app.rs", offset=120),
        "Then the tests.",
    )


def test_bare_invoke():
    assert_read(
        f"Lights on!\n{BARE}", "Lights on!", call("set_light", on=True, level=0.25)
    )


def test_self_closing_invoke():
    assert_read(
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="get_time"/>\n</｜DSML｜tool_calls>',
        call("get_time"),
    )


def test_a_json_object_in_place_of_parameters():
    assert_read(
        '<｜DSML｜tool_calls>\n    <｜DSML｜invoke name="add">\n    {\n'
        '        "a": 2,\n        "b": 40\n    }\n</｜DSML｜invoke>\n'
        "</｜DSML｜tool_calls>",
        call("add", a=2, b=40),
    )


def test_unknown_tool():
    assert_untouched(ONE.replace("read_file", "burn_file"))


def test_cut():
    assert_read(ONE[:90], CUT, truncated=True)
