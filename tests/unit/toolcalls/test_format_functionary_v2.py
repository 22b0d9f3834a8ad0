"""functionary_v2: a recipient, then the content that it gets."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = '<|from|>assistant\n<|recipient|>get_weather\n<|content|>{"city": "Turku"}'
TURKU = call("get_weather", city="Turku")


def test_a_plain_call():
    assert_read(ONE, TURKU)
    assert_read(f"{ONE}<|stop|>", TURKU)


def test_without_the_sender():
    assert_read(ONE.partition("\n")[2], TURKU)


def test_several_calls_and_prose_before():
    clock = "<|from|>assistant\n<|recipient|>get_time\n<|content|>{}<|stop|>"
    assert_read(f"I look.\n{ONE}\n{clock}", "I look.", TURKU, call("get_time"))


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_tides"))


def test_cut():
    assert_read(ONE[:-4], CUT, truncated=True)
