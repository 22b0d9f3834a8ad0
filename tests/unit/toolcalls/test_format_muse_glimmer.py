"""muse_glimmer: as muse, the name sometimes doubled by its namespace."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

ONE = """\
to=search<|message|><atem:function_calls>
<atem:invoke name="search">
<atem:parameter name="query">"glimmer" & <shine></atem:parameter>
<atem:parameter name="tags">["light"]</atem:parameter>
</atem:invoke>
</atem:function_calls>"""
GLIMMER = call("search", query='"glimmer" & <shine>', tags=["light"])


def test_a_plain_call():
    check(ONE, GLIMMER)


def test_a_header_before():
    check(f"<|start|>assistant {ONE}<|eot|>", GLIMMER)


def test_no_arguments():
    check(
        "to=get_time<|message|><atem:function_calls>\n"
        '<atem:invoke name="get_time">\n</atem:invoke>\n</atem:function_calls>',
        call("get_time"),
    )


def test_unknown_tool():
    check_untouched(ONE.replace("search", "shine"))


def test_cut():
    check(ONE[:120], CUT, truncated=True)
