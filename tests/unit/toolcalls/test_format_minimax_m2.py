"""minimax_m2: invokes with parameters inside a namespaced wrapper."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
<minimax:tool_call>
<invoke name="search">
<parameter name="query">C++ vector<int> & friends</parameter>
<parameter name="tags">["cpp", "stl"]</parameter>
</invoke>
</minimax:tool_call>"""
CPP = call("search", query="C++ vector<int> & friends", tags=["cpp", "stl"])


def test_a_plain_call():
    assert_read(ONE, CPP)


def test_several_invokes():
    assert_read(
        "<minimax:tool_call>\n"
        '<invoke name="get_time">\n</invoke>\n'
        '<invoke name="set_light">\n<parameter name="on">true</parameter>\n'
        '<parameter name="room">null</parameter>\n</invoke>\n'
        "</minimax:tool_call>",
        call("get_time"),
        call("set_light", on=True, room=None),
    )


def test_several_wrappers():
    assert_read(f"{ONE}\n{ONE}", CPP, CPP)


def test_prose_around():
    assert_read(f"I search.\n{ONE}\nFound.", "I search.", CPP, "Found.")


def test_a_thought_before_stays():
    assert_read(f"<think>C++?</think>\n{ONE}", "<think>C++?</think>", CPP)


def test_an_unquoted_name():
    assert_read(ONE.replace('"search"', "search"), CPP)


def test_the_other_namespace():
    assert_read(ONE.replace("minimax:tool_call", "function_calls"), CPP)


def test_a_value_on_lines_of_its_own():
    assert_read(
        '<minimax:tool_call>\n<invoke name="python">\n<parameter name="code">'
        'import re\nprint(re.sub("<", ">", "a<b"))</parameter>\n</invoke>\n'
        "</minimax:tool_call>",
        call("python", code='import re\nprint(re.sub("<", ">", "a<b"))'),
    )


def test_missing_closer_at_the_end():
    assert_read(ONE.removesuffix("\n</minimax:tool_call>"), CPP)


def test_missing_closers_of_invoke_and_wrapper():
    assert_read(ONE.removesuffix("\n</invoke>\n</minimax:tool_call>"), CPP)


def test_unknown_tool():
    assert_untouched(ONE.replace('"search"', '"mine"'))


def test_cut():
    assert_read(ONE[:80], CUT, truncated=True)
