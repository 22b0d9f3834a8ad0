"""internlm2: JSON with parameters between action markers."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

ONE = """\
<|action_start|><|plugin|>
{"name": "get_weather", "parameters": {"city": "上海", "unit": "celsius"}}
<|action_end|>"""
SHANGHAI = call("get_weather", city="上海", unit="celsius")


def test_a_plain_call():
    check(ONE, SHANGHAI)


def test_prose_around():
    check(f"我需要查询。{ONE}\n请稍候。", "我需要查询。", SHANGHAI, "请稍候。")


def test_a_thought_before_stays():
    check(f"<think>天气</think>\n{ONE}", "<think>天气</think>", SHANGHAI)


def test_arguments_for_parameters():
    check(ONE.replace("parameters", "arguments"), SHANGHAI)


def test_no_arguments():
    check(
        '<|action_start|><|plugin|>{"name": "get_time", "parameters": {}}<|action_end|>',
        call("get_time"),
    )


def test_missing_end_marker():
    check(ONE.removesuffix("\n<|action_end|>"), SHANGHAI)


def test_unknown_tool():
    check_untouched(ONE.replace("get_weather", "get_fog"))


def test_cut():
    check(ONE[:80], CUT, truncated=True)
