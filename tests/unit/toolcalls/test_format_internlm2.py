"""internlm2: JSON with parameters between action markers."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
<|action_start|><|plugin|>
{"name": "get_weather", "parameters": {"city": "上海", "unit": "celsius"}}
<|action_end|>"""
SHANGHAI = call("get_weather", city="上海", unit="celsius")


def test_a_plain_call():
    assert_read(ONE, SHANGHAI)


def test_prose_around():
    assert_read(f"我需要查询。{ONE}\n请稍候。", "我需要查询。", SHANGHAI, "请稍候。")


def test_a_thought_before_stays():
    assert_read(f"<think>天气</think>\n{ONE}", "<think>天气</think>", SHANGHAI)


def test_arguments_for_parameters():
    assert_read(ONE.replace("parameters", "arguments"), SHANGHAI)


def test_no_arguments():
    assert_read(
        '<|action_start|><|plugin|>{"name": "get_time", "parameters": {}}<|action_end|>',
        call("get_time"),
    )


def test_missing_end_marker():
    assert_read(ONE.removesuffix("\n<|action_end|>"), SHANGHAI)


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_fog"))


def test_cut():
    assert_read(ONE[:80], CUT, truncated=True)
