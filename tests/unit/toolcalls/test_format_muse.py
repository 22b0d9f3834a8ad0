"""muse: a message to the tool, with atem tags inside (Muse Spark)."""

from tests.unit.toolcalls.support import (
    CUT,
    assert_calls,
    assert_read,
    assert_untouched,
    call,
)

TAGS = """\
<atem:function_calls>
<atem:invoke name="get_weather">
<atem:parameter name="city">Menlo Park</atem:parameter>
<atem:parameter name="days">2</atem:parameter>
</atem:invoke>
</atem:function_calls>"""
ONE = f"to=get_weather<|message|>{TAGS}"
MENLO = call("get_weather", city="Menlo Park", days=2)


def test_a_plain_call():
    assert_read(ONE, MENLO)


def test_the_tags_alone():
    assert_read(TAGS, MENLO)


def test_several_messages():
    assert_read(
        f"{ONE}<|eom|><|start|>assistant to=get_time<|message|><atem:function_calls>\n"
        '<atem:invoke name="get_time">\n</atem:invoke>\n</atem:function_calls>',
        MENLO,
        call("get_time"),
    )


def test_several_invokes():
    assert_read(
        TAGS.replace(
            "</atem:function_calls>",
            '<atem:invoke name="get_time">\n</atem:invoke>\n</atem:function_calls>',
        ),
        MENLO,
        call("get_time"),
    )


def test_after_a_message_to_oneself():
    assert_calls(
        f"to=self<|message|>The weather.<|eom|><|start|>assistant {ONE}<|eom|>",
        MENLO,
        hidden=["<atem:", "</atem:"],
    )


def test_prose_around():
    assert_read(f"I look.\n{TAGS}\nOk.", "I look.", MENLO, "Ok.")


def test_end_of_message_is_not_shown():
    assert_read(f"{ONE}<|eom|>", MENLO)


def test_unknown_tool():
    assert_untouched(TAGS.replace("get_weather", "get_valley"))


def test_cut():
    assert_read(ONE[:130], CUT, truncated=True)
