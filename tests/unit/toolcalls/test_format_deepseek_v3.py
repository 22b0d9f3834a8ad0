"""deepseek_v3: special tokens, the name on a line, JSON in a fence that IS a call."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

BEGIN = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
NEXT = "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>"
END = "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
ONE = f'{BEGIN}get_weather\n```json\n{{"city": "Hangzhou"}}\n```{END}'


def test_a_plain_call():
    assert_read(ONE, call("get_weather", city="Hangzhou"))


def test_several_calls():
    assert_read(
        f'{BEGIN}get_weather\n```json\n{{"city": "Wuhan", "days": 3}}\n```'
        f'{NEXT}bash\n```json\n{{"command": "uptime"}}\n```{END}',
        call("get_weather", city="Wuhan", days=3),
        call("bash", command="uptime"),
    )


def test_prose_around():
    assert_read(
        f"I will check that for you.\n\n{ONE}\nPlease wait.",
        "I will check that for you.",
        call("get_weather", city="Hangzhou"),
        "Please wait.",
    )


def test_a_thought_before_stays():
    assert_read(
        f"<think>\nThe weather, then.\n</think>\n\n{ONE}",
        "<think> The weather, then. </think>",
        call("get_weather", city="Hangzhou"),
    )


def test_no_arguments():
    assert_read(f"{BEGIN}get_time\n```json\n{{}}\n```{END}", call("get_time"))


def test_a_fence_inside_a_string():
    assert_read(
        f'{BEGIN}python\n```json\n{{"code": "print(\'```\')\\n# ```"}}\n```{END}',
        call("python", code="print('```')\n# ```"),
    )


@pytest.mark.parametrize(
    ("bar", "gap"),
    [("|", " "), ("|", "_"), ("｜", "\\_"), ("｜", "_"), ("|", "▁")],
)
def test_markers_as_distills_and_renderers_write_them(bar, gap):
    text = ONE.replace("▁", gap).replace("｜", bar)
    assert_read(text, call("get_weather", city="Hangzhou"))


def test_missing_end_markers():
    assert_read(ONE.removesuffix(END), call("get_weather", city="Hangzhou"))


def test_only_the_outer_end_is_missing():
    assert_read(
        ONE.removesuffix("<｜tool▁calls▁end｜>"), call("get_weather", city="Hangzhou")
    )


def test_end_of_sentence_token_is_not_shown():
    assert_read(f"{ONE}<｜end▁of▁sentence｜>", call("get_weather", city="Hangzhou"))


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_horoscope"))


def test_cut():
    assert_read(
        f'Well.\n{BEGIN}get_weather\n```json\n{{"city": "Hang',
        "Well.",
        CUT,
        truncated=True,
    )
