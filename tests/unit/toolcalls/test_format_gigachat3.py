"""gigachat3: JSON behind a function_call marker or a role separator."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

BODY = '{"name": "search", "arguments": {"query": "Эрмитаж", "limit": 2}}'
ROLE = f"<|message_sep|>\n\nfunction call<|role_sep|>\n{BODY}"
HERMITAGE = call("search", query="Эрмитаж", limit=2)


def test_the_role_separator():
    assert_read(ROLE, HERMITAGE)


def test_the_marker():
    assert_read(f"<|function_call|>{BODY}", HERMITAGE)


def test_prose_before():
    assert_read(f"Сейчас поищу.{ROLE}", "Сейчас поищу.", HERMITAGE)
    assert_read(f"Сейчас поищу.<|function_call|>{BODY}", "Сейчас поищу.", HERMITAGE)


def test_the_separator_after_the_call_is_not_shown():
    assert_read(f"<|function_call|>{BODY}<|message_sep|>", HERMITAGE)


def test_end_of_text_is_not_shown():
    assert_read(f"{ROLE}</s>", HERMITAGE)


def test_without_the_leading_separator():
    assert_read(f"function call<|role_sep|>\n{BODY}", HERMITAGE)


def test_no_arguments():
    assert_read(
        '<|function_call|>{"name": "get_time", "arguments": {}}', call("get_time")
    )


def test_the_words_alone_are_prose():
    assert_untouched("A function call\n{is made} with a name and arguments.")


def test_unknown_tool():
    assert_untouched(ROLE.replace('"search"', '"draw"'))


def test_cut():
    assert_read(f"Ищу.{ROLE[:80]}", "Ищу.", CUT, truncated=True)


def test_arguments_that_do_not_fit_go_to_the_tool():
    # The separator is a special token, so the tool may say what is wrong.
    assert_read(
        ROLE.replace('"Эрмитаж"', '{"музей": "Эрмитаж"}'),
        call("search", query={"музей": "Эрмитаж"}, limit=2),
    )
