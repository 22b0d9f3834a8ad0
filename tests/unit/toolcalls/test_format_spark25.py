"""spark25: as GLM, key and value on one line (Spark 2.5)."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
<tool_call>set_light
<arg_key>on</arg_key><arg_value>true</arg_value>
<arg_key>level</arg_key><arg_value>0.8</arg_value>
<arg_key>room</arg_key><arg_value>卧室</arg_value>
</tool_call>"""
LIGHT = call("set_light", on=True, level=0.8, room="卧室")


def test_a_plain_call():
    assert_read(ONE, LIGHT)


def test_several_calls_and_no_arguments():
    assert_read(f"{ONE}\n<tool_call>get_time\n</tool_call>", LIGHT, call("get_time"))


def test_prose_around():
    assert_read(f"开灯。\n{ONE}\n好了。", "开灯。", LIGHT, "好了。")


def test_null_where_the_schema_allows_it():
    assert_read(
        ONE.replace("卧室", "null"), call("set_light", on=True, level=0.8, room=None)
    )


def test_unknown_tool():
    assert_untouched(ONE.replace("set_light", "set_fire"))


def test_cut():
    assert_read(ONE[:90], CUT, truncated=True)
