"""muse_glimmer: as muse, the name sometimes doubled by its namespace."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
to=search<|message|><atem:function_calls>
<atem:invoke name="search">
<atem:parameter name="query">"glimmer" & <shine></atem:parameter>
<atem:parameter name="tags">["light"]</atem:parameter>
</atem:invoke>
</atem:function_calls>"""
GLIMMER = call("search", query='"glimmer" & <shine>', tags=["light"])


def test_a_plain_call():
    assert_read(ONE, GLIMMER)


def test_a_header_before():
    assert_read(f"<|start|>assistant {ONE}<|eot|>", GLIMMER)


def test_no_arguments():
    assert_read(
        "to=get_time<|message|><atem:function_calls>\n"
        '<atem:invoke name="get_time">\n</atem:invoke>\n</atem:function_calls>',
        call("get_time"),
    )


def test_unknown_tool():
    assert_untouched(ONE.replace("search", "shine"))


def test_cut():
    assert_read(ONE[:120], CUT, truncated=True)
