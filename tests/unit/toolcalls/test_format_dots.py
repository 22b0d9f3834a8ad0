"""dots: invokes or JSON inside dots_function_call."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
<dots_function_call>
<invoke name="search">
<parameter name="query">tea houses in Suzhou</parameter>
<parameter name="limit">5</parameter>
</invoke>
</dots_function_call>"""


def test_a_plain_call():
    assert_read(ONE, call("search", query="tea houses in Suzhou", limit=5))


def test_several_calls_in_one_wrapper():
    assert_read(
        "<dots_function_call>\n"
        '<invoke name="get_time">\n</invoke>\n'
        '<invoke name="bash">\n<parameter name="command">df -h | sort</parameter>\n'
        "</invoke>\n</dots_function_call>",
        call("get_time"),
        call("bash", command="df -h | sort"),
    )


def test_several_wrappers():
    assert_read(
        f"{ONE}\n{ONE}",
        call("search", query="tea houses in Suzhou", limit=5),
        call("search", query="tea houses in Suzhou", limit=5),
    )


def test_prose_around():
    assert_read(
        f"I search.\n{ONE}\nOk.",
        "I search.",
        call("search", query="tea houses in Suzhou", limit=5),
        "Ok.",
    )


def test_json_inside():
    assert_read(
        "<dots_function_call>\n"
        '{"name": "search", "arguments": {"query": "pu\'er"}}\n'
        "</dots_function_call>",
        call("search", query="pu'er"),
    )


def test_unknown_tool():
    assert_untouched(ONE.replace('"search"', '"taste"'))


def test_cut():
    assert_read(ONE[:75], CUT, truncated=True)
