"""seed_oss: function and parameter tags in a namespaced wrapper."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

INNER = """\
<function=search>
<parameter=query>豆包 seed</parameter>
<parameter=limit>10</parameter>
</function>"""
ONE = f"<seed:tool_call>\n{INNER}\n</seed:tool_call>"
SEED = call("search", query="豆包 seed", limit=10)


def test_a_plain_call():
    check(ONE, SEED)


def test_several_functions_and_no_arguments():
    check(
        f"<seed:tool_call>\n{INNER}\n<function=get_time>\n</function>\n"
        "</seed:tool_call>",
        SEED,
        call("get_time"),
    )


def test_several_wrappers():
    check(f"{ONE}\n{ONE}", SEED, SEED)


def test_prose_around():
    check(f"我搜索。\n{ONE}\n完成。", "我搜索。", SEED, "完成。")


def test_a_thought_before_stays():
    check(
        f"<seed:think>\n搜索\n</seed:think>{ONE}",
        "<seed:think> 搜索 </seed:think>",
        SEED,
    )


def test_wrapper_omitted():
    check(f"我搜索。\n{INNER}", "我搜索。", SEED)


def test_opener_omitted():
    check(f"{INNER}\n</seed:tool_call>", SEED)


def test_missing_closer_at_the_end():
    check(ONE.removesuffix("\n</seed:tool_call>"), SEED)


def test_unknown_tool():
    check_untouched(ONE.replace("search", "sow"))


def test_cut():
    check(ONE[:65], CUT, truncated=True)
