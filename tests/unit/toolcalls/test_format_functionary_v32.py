"""functionary_v32: `>>>`, a recipient on a line, then its content."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

ONE = '>>>get_weather\n{"city": "Lima"}'


def test_a_plain_call():
    check(ONE, call("get_weather", city="Lima"))


def test_several_calls():
    check(
        f'{ONE}>>>search\n{{"query": "ceviche >>> tacos"}}',
        call("get_weather", city="Lima"),
        call("search", query="ceviche >>> tacos"),
    )


def test_on_lines_of_their_own():
    check(
        f"{ONE}\n>>>get_time\n{{}}", call("get_weather", city="Lima"), call("get_time")
    )


def test_text_for_all_is_shown():
    check(
        f">>>all\nI will look that up.{ONE}",
        "I will look that up.",
        call("get_weather", city="Lima"),
    )


def test_the_first_marker_stood_in_the_prompt():
    check(ONE.removeprefix(">>>"), call("get_weather", city="Lima"))


def test_a_python_prompt_is_not_a_call():
    check_untouched('>>> get_weather\n{"city": "Lima"} is what the shell printed.')


def test_unknown_tool():
    check_untouched(ONE.replace("get_weather", "get_llama"))


def test_cut():
    check(
        '>>>all\nA moment.>>>get_weather\n{"city": "Li',
        "A moment.",
        CUT,
        truncated=True,
    )
