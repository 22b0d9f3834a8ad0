"""seed_oss: function and parameter tags in a namespaced wrapper."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

INNER = """\
<function=search>
<parameter=query>豆包 seed</parameter>
<parameter=limit>10</parameter>
</function>"""
ONE = f"<seed:tool_call>\n{INNER}\n</seed:tool_call>"
SEED = call("search", query="豆包 seed", limit=10)


def test_a_plain_call():
    assert_read(ONE, SEED)


def test_several_functions_and_no_arguments():
    assert_read(
        f"<seed:tool_call>\n{INNER}\n<function=get_time>\n</function>\n"
        "</seed:tool_call>",
        SEED,
        call("get_time"),
    )


def test_several_wrappers():
    assert_read(f"{ONE}\n{ONE}", SEED, SEED)


def test_prose_around():
    assert_read(f"我搜索。\n{ONE}\n完成。", "我搜索。", SEED, "完成。")


def test_a_thought_before_stays():
    assert_read(
        f"<seed:think>\n搜索\n</seed:think>{ONE}",
        "<seed:think> 搜索 </seed:think>",
        SEED,
    )


def test_wrapper_omitted():
    assert_read(f"我搜索。\n{INNER}", "我搜索。", SEED)


def test_opener_omitted():
    assert_read(f"{INNER}\n</seed:tool_call>", SEED)


def test_missing_closer_at_the_end():
    assert_read(ONE.removesuffix("\n</seed:tool_call>"), SEED)


def test_unknown_tool():
    assert_untouched(ONE.replace("search", "sow"))


def test_cut():
    assert_read(ONE[:65], CUT, truncated=True)
