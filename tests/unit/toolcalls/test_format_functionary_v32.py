"""functionary_v32: `>>>`, a recipient on a line, then its content."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = '>>>get_weather\n{"city": "Lima"}'


def test_a_plain_call():
    assert_read(ONE, call("get_weather", city="Lima"))


def test_several_calls():
    assert_read(
        f'{ONE}>>>search\n{{"query": "ceviche >>> tacos"}}',
        call("get_weather", city="Lima"),
        call("search", query="ceviche >>> tacos"),
    )


def test_on_lines_of_their_own():
    assert_read(
        f"{ONE}\n>>>get_time\n{{}}", call("get_weather", city="Lima"), call("get_time")
    )


def test_text_for_all_is_shown():
    assert_read(
        f">>>all\nI will look that up.{ONE}",
        "I will look that up.",
        call("get_weather", city="Lima"),
    )


def test_the_first_marker_stood_in_the_prompt():
    assert_read(ONE.removeprefix(">>>"), call("get_weather", city="Lima"))


def test_a_python_prompt_is_not_a_call():
    assert_untouched('>>> get_weather\n{"city": "Lima"} is what the shell printed.')


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_llama"))


def test_cut():
    assert_read(
        '>>>all\nA moment.>>>get_weather\n{"city": "Li',
        "A moment.",
        CUT,
        truncated=True,
    )
