"""llama4_pythonic: a list of Python calls, bare or between python markers."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

BODY = '[get_weather(city="Reno", unit="fahrenheit"), get_time()]'
RENO = call("get_weather", city="Reno", unit="fahrenheit")


def test_a_plain_list():
    assert_read(BODY, RENO, call("get_time"))


def test_between_markers():
    assert_read(f"<|python_start|>{BODY}<|python_end|>", RENO, call("get_time"))


def test_prose_around():
    assert_read(
        f"They want the weather.<|python_start|>{BODY}<|python_end|>I will wait.",
        "They want the weather.",
        RENO,
        call("get_time"),
        "I will wait.",
    )


def test_literals_of_json_and_of_python():
    assert_read(
        "[set_light(on=true, level=1.5, room=null), set_light(on=False, room=None)]",
        call("set_light", on=True, level=1.5, room=None),
        call("set_light", on=False, room=None),
    )


def test_end_markers_are_not_shown():
    assert_read(f"{BODY}<|eom|>", RENO, call("get_time"))
    assert_read(f"{BODY}<|eot_id|>", RENO, call("get_time"))


def test_missing_end_marker():
    assert_read(f"<|python_start|>{BODY}", RENO, call("get_time"))


def test_unknown_tool():
    assert_untouched("<|python_start|>[get_casino(city='Reno')]<|python_end|>")


def test_cut():
    assert_read("<|python_start|>[get_weather(city='Re", CUT, truncated=True)
