"""Chat Completions requests."""

from shared.backends.base import Turn
from shared.backends.openai_chat import chat_completions_body

TOOL = {"type": "function", "function": {"name": "t", "parameters": {}}}
ASKED = {"role": "user", "content": "Hello"}


def test_the_smallest_request():
    assert chat_completions_body("m", Turn((ASKED,))) == {
        "model": "m",
        "messages": [ASKED],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_parameters_go_along_and_empty_ones_do_not():
    turn = Turn((ASKED,), params={"temperature": 0, "top_p": None, "stop": ["\n"]})
    body = chat_completions_body("m", turn)
    assert body["temperature"] == 0
    assert body["stop"] == ["\n"]
    assert "top_p" not in body


def test_no_parameter_takes_the_place_of_model_messages_or_stream():
    turn = Turn((ASKED,), params={"model": "x", "messages": [], "stream": False})
    body = chat_completions_body("m", turn)
    assert (body["model"], body["messages"], body["stream"]) == ("m", [ASKED], True)


def test_an_agent_may_switch_the_usage_option_off():
    """Some servers refuse `stream_options`."""
    turn = Turn((ASKED,), params={"stream_options": None})
    assert "stream_options" not in chat_completions_body("m", turn)


def test_tools_are_offered_where_there_are_any():
    assert chat_completions_body("m", Turn((ASKED,), (TOOL,)))["tools"] == [TOOL]
    assert "tools" not in chat_completions_body("m", Turn((ASKED,)))


def test_images_files_and_tool_history_stay_as_they_are():
    messages = (
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,A"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]},
        {"role": "tool", "tool_call_id": "a", "content": "six"},
    )
    assert chat_completions_body("m", Turn(messages))["messages"] == list(messages)


def test_a_turn_grows_without_changing_the_one_before():
    turn = Turn((ASKED,), (TOOL,), {"tool_choice": "auto", "seed": 1})
    longer = turn.with_messages({"role": "assistant", "content": "Hi"})
    last = longer.without_tools()
    assert len(turn.messages) == 1
    assert len(last.messages) == 2
    assert last.tools == ()
    assert last.params == {"seed": 1}
    assert turn.params == {"tool_choice": "auto", "seed": 1}
