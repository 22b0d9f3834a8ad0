"""gpt_oss: harmony messages, the tool being the recipient."""

import pytest

from tests.unit.toolcalls.support import (
    CUT,
    assert_calls,
    assert_read,
    assert_untouched,
    call,
)

ARGUMENTS = '{"city": "Tromsø", "unit": "celsius"}'
ONE = (
    "<|channel|>commentary to=functions.get_weather <|constrain|>json"
    f"<|message|>{ARGUMENTS}<|call|>"
)
TROMSO = call("get_weather", city="Tromsø", unit="celsius")
HIDDEN = ["<|channel|>", "<|message|>", "<|call|>", "to=functions", "<|constrain|>"]


def test_a_plain_call():
    assert_read(ONE, TROMSO)


def test_several_messages():
    assert_read(
        f"{ONE}<|start|>assistant<|channel|>commentary to=functions.get_time "
        "<|constrain|>json<|message|>{}<|call|>",
        TROMSO,
        call("get_time"),
    )


def test_after_an_analysis():
    assert_calls(
        "<|channel|>analysis<|message|>They ask about the weather.<|end|>"
        f"<|start|>assistant{ONE}",
        TROMSO,
        hidden=HIDDEN,
    )


def test_prose_before():
    assert_read(f"I will look.\n{ONE}", "I will look.", TROMSO)


def test_a_preamble_on_the_commentary_channel():
    assert_calls(
        "<|channel|>commentary<|message|>Looking it up now.<|end|>"
        f"<|start|>assistant{ONE}",
        TROMSO,
        hidden=HIDDEN,
    )


@pytest.mark.parametrize(
    "header",
    [
        "<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>",
        "<|start|>assistant<|channel|>commentary to=functions.get_weather<|message|>",
        "<|channel|>analysis to=functions.get_weather <|constrain|>json<|message|>",
        "<|channel|>commentary to=functions.get_weather json<|message|>",
        "<|channel|>commentary to=functions.get_weather<|constrain|>json<|message|>",
        "<|channel|>commentary to=functions.get_weather code<|message|>",
        "commentary to=functions.get_weather <|constrain|>json<|message|>",
    ],
)
def test_headers_as_the_model_varies_them(header):
    assert_calls(f"{header}{ARGUMENTS}<|call|>", TROMSO, hidden=HIDDEN)


def test_no_end_marker():
    assert_read(ONE.removesuffix("<|call|>"), TROMSO)


@pytest.mark.parametrize(
    "text",
    [
        "assistantcommentary to=functions.get_weather json",
        "assistantcommentary to=functions.get_weather ",
        "commentary to=functions.get_weather json",
    ],
)
def test_markers_stripped(text):
    assert_calls(f"{text}{ARGUMENTS}", TROMSO, hidden=["to=functions"])


def test_markers_stripped_after_an_analysis():
    assert_calls(
        "analysisThe weather in Tromsø is wanted."
        f"assistantcommentary to=functions.get_weather json{ARGUMENTS}",
        TROMSO,
        hidden=["to=functions"],
    )


def test_no_arguments():
    assert_read(
        "<|channel|>commentary to=functions.get_time <|constrain|>json<|message|>{}"
        "<|call|>",
        call("get_time"),
    )


def test_unknown_tool():
    assert_untouched("assistantcommentary to=functions.get_whale json" + ARGUMENTS)
    assert_untouched(ONE.replace("get_weather", "get_whale"))


def test_cut():
    assert_read(ONE[:95], CUT, truncated=True)
