"""longcat: JSON in longcat_tool_call tags."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
<longcat_tool_call>
{"name": "bash", "arguments": {"command": "cat a.txt > b.txt && echo \\"ok\\""}}
</longcat_tool_call>"""
COPY = call("bash", command='cat a.txt > b.txt && echo "ok"')


def test_a_plain_call():
    assert_read(ONE, COPY)


def test_several_calls_and_no_arguments():
    assert_read(
        f'{ONE}\n<longcat_tool_call>{{"name": "get_time", "arguments": {{}}}}'
        "</longcat_tool_call>",
        COPY,
        call("get_time"),
    )


def test_prose_around():
    assert_read(f"I copy it.\n{ONE}\nCopied.", "I copy it.", COPY, "Copied.")


def test_a_thought_before_stays():
    assert_read(
        f"<longcat_think>\nCopy, then.\n</longcat_think>\n{ONE}",
        "<longcat_think> Copy, then. </longcat_think>",
        COPY,
    )


def test_missing_closer_at_the_end():
    assert_read(ONE.removesuffix("\n</longcat_tool_call>"), COPY)


def test_unknown_tool():
    assert_untouched(ONE.replace('"bash"', '"purr"'))


def test_cut():
    assert_read(ONE[:70], CUT, truncated=True)


def test_keys_and_values_in_tags():
    pair = "<longcat_arg_key>{}</longcat_arg_key>\n<longcat_arg_value>{}</longcat_arg_value>\n"
    body = pair.format("city", "Oslo") + pair.format("days", 2)
    assert_read(
        f"<longcat_tool_call>get_weather\n{body}</longcat_tool_call>Done.",
        call("get_weather", city="Oslo", days=2),
        "Done.",
    )
