"""anthropic: function_calls, invoke and parameter tags, as imitations write them."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
<function_calls>
<invoke name="read_file">
<parameter name="path">docs/a & b.md</parameter>
<parameter name="offset">12</parameter>
</invoke>
</function_calls>"""
FILE = call("read_file", path="docs/a & b.md", offset=12)


def test_a_plain_call():
    assert_read(ONE, FILE)


def test_several_invokes():
    assert_read(
        "<function_calls>\n"
        '<invoke name="get_time">\n</invoke>\n'
        '<invoke name="bash">\n<parameter name="command">cat <<EOF\n1\nEOF</parameter>\n'
        "</invoke>\n</function_calls>",
        call("get_time"),
        call("bash", command="cat <<EOF\n1\nEOF"),
    )


def test_prose_around():
    assert_read(
        f"I open the file.\n\n{ONE}\n\nLet us see.",
        "I open the file.",
        FILE,
        "Let us see.",
    )


def test_the_invoke_alone():
    inner = "\n".join(ONE.splitlines()[1:-1])
    assert_read(f"I open it.\n{inner}", "I open it.", FILE)


def test_indented():
    assert_read(
        '<function_calls>\n  <invoke name="get_weather">\n'
        '    <parameter name="city">Ghent</parameter>\n  </invoke>\n</function_calls>',
        call("get_weather", city="Ghent"),
    )


def test_single_quotes_around_names():
    assert_read(ONE.replace('"', "'"), FILE)


def test_missing_closer_at_the_end():
    assert_read(ONE.removesuffix("\n</function_calls>"), FILE)


def test_unknown_tool():
    assert_untouched(ONE.replace("read_file", "eat_file"))


def test_prose_between_the_tags_is_no_call():
    assert_untouched("An <invoke> inside <function_calls> names the tool.")


def test_cut():
    assert_read(f"I open it.\n{ONE[:70]}", "I open it.", CUT, truncated=True)
