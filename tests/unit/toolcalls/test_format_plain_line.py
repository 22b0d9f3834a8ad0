"""plain_line: the tool's name on a line, the text of its one argument below."""

from tests.unit.toolcalls.support import call, check, check_untouched, tool


def test_a_plain_call():
    check('bash\necho "it works"', call("bash", command='echo "it works"'))


def test_two_arguments_leave_no_place_for_the_text():
    tools = [tool("copy", ["source", "target"], source="string", target="string")]
    check_untouched("copy\na.txt b.txt", tools=tools)


def test_a_number_is_no_text():
    tools = [tool("wait", ["seconds"], seconds="number")]
    check_untouched("wait\nfor the bus", tools=tools)


def test_in_the_middle_of_a_message():
    check_untouched("The commands are:\nbash\npython\nThat is all.")


def test_a_heading():
    check_untouched("Python\n\nA language for scripts and for science.")


def test_unknown_tool():
    check_untouched("zsh\necho hello")
