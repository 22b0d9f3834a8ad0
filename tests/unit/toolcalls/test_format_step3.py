"""step3: steptml tags behind special tokens."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

BEGIN = "<｜tool_calls_begin｜>"
END = "<｜tool_calls_end｜>"


def step(name: str, **values: str) -> str:
    body = "".join(
        f'<steptml:parameter name="{key}">{value}</steptml:parameter>'
        for key, value in values.items()
    )
    return (
        "<｜tool_call_begin｜>function<｜tool_sep｜>"
        f'<steptml:invoke name="{name}">{body}</steptml:invoke><｜tool_call_end｜>'
    )


ONE = f"{BEGIN}{step('get_weather', city='成都', days='7')}{END}"
CHENGDU = call("get_weather", city="成都", days=7)


def test_a_plain_call():
    assert_read(ONE, CHENGDU)


def test_several_calls_and_no_arguments():
    assert_read(
        f"{BEGIN}\n{step('get_weather', city='成都', days='7')}\n{step('get_time')}\n{END}",
        CHENGDU,
        call("get_time"),
    )


def test_prose_around():
    assert_read(f"查一下。{ONE}好的。", "查一下。", CHENGDU, "好的。")


def test_html_in_a_value():
    page = "<p>1 < 2</p>\n<br/>"
    assert_read(f"{BEGIN}{step('python', code=page)}{END}", call("python", code=page))


def test_missing_end_markers():
    assert_read(ONE.removesuffix(END), CHENGDU)
    assert_read(ONE.removesuffix(f"<｜tool_call_end｜>{END}"), CHENGDU)


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_panda"))


def test_cut():
    assert_read(f"查一下。{ONE[:135]}", "查一下。", CUT, truncated=True)
