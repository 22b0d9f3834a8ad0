"""plain_line: the tool's name on a line, the text of its one argument below."""

from tests.unit.toolcalls.support import assert_read, assert_untouched, call, tool


def test_a_plain_call():
    assert_read('bash\necho "it works"', call("bash", command='echo "it works"'))


def test_two_arguments_leave_no_place_for_the_text():
    tools = [tool("copy", ["source", "target"], source="string", target="string")]
    assert_untouched("copy\na.txt b.txt", tools=tools)


def test_a_number_is_no_text():
    tools = [tool("wait", ["seconds"], seconds="number")]
    assert_untouched("wait\nfor the bus", tools=tools)


def test_in_the_middle_of_a_message():
    assert_untouched("The commands are:\nbash\npython\nThat is all.")


def test_a_heading():
    assert_untouched("Python\n\nA language for scripts and for science.")


def test_unknown_tool():
    assert_untouched("zsh\necho hello")
