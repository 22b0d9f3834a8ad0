"""llama4_pythonic: a list of Python calls, bare or between python markers."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

BODY = '[get_weather(city="Reno", unit="fahrenheit"), get_time()]'
RENO = call("get_weather", city="Reno", unit="fahrenheit")


def test_a_plain_list():
    check(BODY, RENO, call("get_time"))


def test_between_markers():
    check(f"<|python_start|>{BODY}<|python_end|>", RENO, call("get_time"))


def test_prose_around():
    check(
        f"They want the weather.<|python_start|>{BODY}<|python_end|>I will wait.",
        "They want the weather.",
        RENO,
        call("get_time"),
        "I will wait.",
    )


def test_literals_of_json_and_of_python():
    check(
        "[set_light(on=true, level=1.5, room=null), set_light(on=False, room=None)]",
        call("set_light", on=True, level=1.5, room=None),
        call("set_light", on=False, room=None),
    )


def test_end_markers_are_not_shown():
    check(f"{BODY}<|eom|>", RENO, call("get_time"))
    check(f"{BODY}<|eot_id|>", RENO, call("get_time"))


def test_missing_end_marker():
    check(f"<|python_start|>{BODY}", RENO, call("get_time"))


def test_unknown_tool():
    check_untouched("<|python_start|>[get_casino(city='Reno')]<|python_end|>")


def test_cut():
    check("<|python_start|>[get_weather(city='Re", CUT, truncated=True)
