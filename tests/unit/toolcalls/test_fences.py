"""Code fences and inline code: what is inside is shown, what is after is scanned."""

import pytest

from tests.unit.toolcalls.support import assert_read, assert_untouched, call

CALL = (
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Vaasa"}}\n</tool_call>'
)
LINE = CALL.replace("\n", "")
QWEN = "<function=get_weather>\n<parameter=city>\nVaasa\n</parameter>\n</function>"
VAASA = call("get_weather", city="Vaasa")


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    "body", [CALL, QWEN, '[TOOL_CALLS]get_weather[ARGS]{"city": "Vaasa"}']
)
@pytest.mark.parametrize(
    "fenced",
    [
        "```\n{}\n```",
        "```xml\n{}\n```",
        "~~~\n{}\n~~~",
        "~~~~ text\n{}\n~~~~",
        "````markdown\n```\n{}\n```\n````",
        "~~~\n```\n~~\n{}\n~~~",
        "   ```\n   {}\n   ```",
        "```\n\n\n{}\n\n```",
    ],
)
def test_fences(fenced, body):
    assert_untouched("The model writes:\n\n" + fenced.format(body) + "\n\nand stops.")


def test_a_fence_in_a_list():
    text = "1. First step:\n\n    ```\n    {}\n    ```\n\n2. Second step."
    assert_untouched(text.format(CALL.replace("\n", "\n    ")))


def test_a_fence_that_never_closes():
    assert_untouched(f"For example:\n```xml\n{CALL}\n")


def test_a_fence_in_a_quote():
    assert_untouched(
        "As they say:\n> ```\n> " + CALL.replace("\n", "\n> ") + "\n> ```\n"
    )


def test_a_shorter_fence_does_not_close():
    assert_untouched(f"See:\n````\n```\n{CALL}\n````\nEnd.")


def test_a_fence_of_the_other_kind_does_not_close():
    assert_untouched(f"See:\n~~~\n```\n{CALL}\n~~~\nEnd.")


@pytest.mark.parametrize("ticks", ["`", "``", "```"])
def test_inline_code(ticks):
    assert_untouched(f"It writes {ticks}{LINE}{ticks} and stops.")


def test_inline_code_with_a_backtick_inside():
    assert_untouched(f"It writes ``a ` b {LINE}`` and stops.")


def test_inline_code_over_two_lines():
    assert_untouched(f"It writes `{CALL}` and stops.")


def test_a_call_after_a_fence():
    fence = "```sh\nls -l\n```"
    assert_read(f"Such as:\n{fence}\n\n{CALL}", flat(f"Such as: {fence}"), VAASA)


def test_a_call_between_two_fences():
    assert_read(
        f"```\na\n```\n{CALL}\n```\nb\n```",
        "``` a ```",
        VAASA,
        "``` b ```",
    )


def test_an_example_and_then_the_call():
    example = f"I will write this:\n```xml\n{CALL}\n```\nNow for real."
    assert_read(f"{example}\n{CALL}", flat(example), VAASA)


def test_a_call_after_inline_code():
    assert_read(f"I use `get_weather` now: {LINE}", "I use `get_weather` now:", VAASA)


def test_a_call_after_inline_code_that_holds_a_marker():
    assert_read(
        f"After `<tool_call>` comes JSON.\n{CALL}",
        "After `<tool_call>` comes JSON.",
        VAASA,
    )


def test_a_lone_backtick_in_an_earlier_paragraph():
    assert_read(f"Press the ` key.\n\n{CALL}", "Press the ` key.", VAASA)


def test_a_lone_marker_in_an_earlier_paragraph():
    assert_read(
        f"Models emit <tool_call> tags.\n\n{CALL}",
        "Models emit <tool_call> tags.",
        VAASA,
    )


def test_tildes_in_prose_open_no_fence():
    assert_read(f"It takes ~~~3 hours.\n{CALL}", "It takes ~~~3 hours.", VAASA)


def test_a_bare_opener_in_a_fence_does_not_swallow_the_rest():
    text = "```\n<tool_call>\n```\nThat is the opener."
    assert_untouched(text)
