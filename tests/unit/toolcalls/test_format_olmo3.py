"""olmo3: Python calls on lines of their own inside function_calls."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = '<function_calls>\nget_weather(city="Seattle", days=3)\n</function_calls>'
SEATTLE = call("get_weather", city="Seattle", days=3)


def test_a_plain_call():
    assert_read(ONE, SEATTLE)


def test_on_one_line():
    assert_read(ONE.replace("\n", ""), SEATTLE)


def test_several_lines():
    assert_read(
        "<function_calls>\nget_time()\nadd(a=1, b=2)\nbash(command='ls -l')\n"
        "</function_calls>",
        call("get_time"),
        call("add", a=1, b=2),
        call("bash", command="ls -l"),
    )


def test_prose_around():
    assert_read(f"I look.\n{ONE}\nSo.", "I look.", SEATTLE, "So.")


def test_literals_of_json():
    assert_read(
        "<function_calls>set_light(on=false, level=0.5, room=null)</function_calls>",
        call("set_light", on=False, level=0.5, room=None),
    )


def test_containers():
    assert_read(
        "<function_calls>search(query='x', tags=['a', 'b'], "
        'filters={"deep": {"er": [1, true, null]}})</function_calls>',
        call(
            "search",
            query="x",
            tags=["a", "b"],
            filters={"deep": {"er": [1, True, None]}},
        ),
    )


def test_escapes_and_tags_in_strings():
    assert_read(
        '<function_calls>python(code="s = \\"a\\\\nb\\"\\nprint(\'</x>\')")'
        "</function_calls>",
        call("python", code="s = \"a\\nb\"\nprint('</x>')"),
    )


def test_missing_closer_at_the_end():
    assert_read(ONE.removesuffix("\n</function_calls>"), SEATTLE)


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_salmon"))


def test_cut():
    assert_read(ONE[:40], CUT, truncated=True)
