"""apertus: a list of one-key objects, the key being the tool's name."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call


def test_a_plain_call():
    assert_read(
        '<|tools_prefix|>[{"get_weather": {"city": "Zermatt"}}]<|tools_suffix|>',
        call("get_weather", city="Zermatt"),
    )


def test_several_calls_in_one_list():
    assert_read(
        '<|tools_prefix|>[{"get_weather": {"city": "Chur"}}, '
        '{"add": {"a": 1, "b": 2}}]<|tools_suffix|>',
        call("get_weather", city="Chur"),
        call("add", a=1, b=2),
    )


def test_prose_around():
    assert_read(
        "Grüezi, I look it up.\n"
        '<|tools_prefix|>[{"search": {"query": "Rösti"}}]<|tools_suffix|>\n'
        "One moment.",
        "Grüezi, I look it up.",
        call("search", query="Rösti"),
        "One moment.",
    )


def test_no_arguments():
    assert_read('<|tools_prefix|>[{"get_time": {}}]<|tools_suffix|>', call("get_time"))


def test_missing_suffix_at_the_end():
    assert_read('<|tools_prefix|>[{"get_time": {}}]', call("get_time"))


def test_an_argument_named_name_is_an_argument():
    assert_untouched('<|tools_prefix|>[{"name": {"city": "Bern"}}]<|tools_suffix|>')


def test_unknown_tool():
    assert_untouched('<|tools_prefix|>[{"launch": {"to": "moon"}}]<|tools_suffix|>')


def test_cut():
    assert_read(
        'Let me see. <|tools_prefix|>[{"get_weather": {"city": "Zer',
        "Let me see.",
        CUT,
        truncated=True,
    )
