"""poolside: as GLM, one wrapper for each call (Laguna)."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
<tool_call>read_file
<arg_key>path</arg_key>
<arg_value>lib/pool.py</arg_value>
<arg_key>offset</arg_key>
<arg_value>40</arg_value>
</tool_call>"""
POOL = call("read_file", path="lib/pool.py", offset=40)


def test_a_plain_call():
    assert_read(ONE, POOL)


def test_several_wrappers_and_no_arguments():
    assert_read(f"{ONE}\n<tool_call>get_time\n</tool_call>", POOL, call("get_time"))


def test_prose_around():
    assert_read(f"I open it. {ONE}\nNow.", "I open it.", POOL, "Now.")


def test_a_key_without_a_value_is_dropped():
    assert_read(
        "<tool_call>get_weather\n<arg_key>unit</arg_key>\n"
        "<arg_key>city</arg_key>\n<arg_value>Brest</arg_value>\n</tool_call>",
        call("get_weather", city="Brest"),
    )


def test_only_a_key_where_a_value_is_required():
    assert_untouched("<tool_call>read_file\n<arg_key>path</arg_key></tool_call>")


def test_unknown_tool():
    assert_untouched(ONE.replace("read_file", "dive"))


def test_cut():
    assert_read(f"{ONE}\n{ONE[:70]}", POOL, CUT, truncated=True)
