"""Responses requests: Chat Completions names in, the Responses API's own out."""

import pytest

from shared.backends.base import Turn
from shared.backends.openai_responses import responses_body

ASKED = {"role": "user", "content": "Hello"}
SYSTEM = {"role": "system", "content": "Be brief."}
FUNCTION = {"name": "t", "description": "T", "parameters": {"type": "object"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "t", "arguments": "{}"}}


def body(*messages, keep_session=False, **turn):
    return responses_body("m", Turn(messages, **turn), keep_session)


def test_the_smallest_request():
    assert body(ASKED) == {"model": "m", "input": [ASKED], "stream": True}


@pytest.mark.parametrize(
    ("params", "mapped"),
    [
        ({"max_tokens": 9}, {"max_output_tokens": 9}),
        ({"max_completion_tokens": 9, "max_tokens": 5}, {"max_output_tokens": 9}),
        ({"temperature": 0, "top_p": 0.5}, {"temperature": 0, "top_p": 0.5}),
        ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        (
            {"reasoning_effort": "low", "reasoning": {"summary": "auto"}},
            {"reasoning": {"effort": "low", "summary": "auto"}},
        ),
        (
            {"response_format": {"type": "json_object"}},
            {"text": {"format": {"type": "json_object"}}},
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {}, "strict": True},
                }
            },
            {
                "text": {
                    "format": {
                        "type": "json_schema",
                        "name": "n",
                        "schema": {},
                        "strict": True,
                    }
                }
            },
        ),
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "t"}}},
            {"tool_choice": {"type": "function", "name": "t"}},
        ),
        ({"stop": ["x"], "seed": 1, "n": 2, "logit_bias": {}}, {}),
        ({"frequency_penalty": 1, "presence_penalty": 1}, {}),
        ({"stream_options": {"include_usage": True}}, {}),
        ({"temperature": None, "max_tokens": None}, {}),
    ],
)
def test_parameters_get_the_names_of_this_api(params, mapped):
    sent = body(ASKED, params=params)
    assert {k: v for k, v in sent.items() if k not in ("model", "input", "stream")} == (
        mapped
    )


def test_tools_lose_their_inner_object():
    sent = body(ASKED, tools=({"type": "function", "function": FUNCTION},))
    assert sent["tools"] == [{"type": "function", **FUNCTION}]


def test_parts_of_a_user_message():
    message = {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,A"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:x"}},
        ],
    }
    [item] = body(message)["input"]
    assert item["role"] == "user"
    assert item["content"] == [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64,A"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:x"},
    ]


def test_parts_of_an_answer_are_output():
    message = {"role": "assistant", "content": [{"type": "text", "text": "Six."}]}
    [item] = body(message)["input"]
    assert item["content"] == [{"type": "output_text", "text": "Six."}]


def test_tool_calls_and_results_are_items_of_their_own():
    said = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "six"}
    assert body(ASKED, said, result)["input"] == [
        ASKED,
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "c1", "name": "t", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "six"},
    ]


def test_a_result_in_parts_is_its_text():
    parts = [{"type": "text", "text": "si"}, {"type": "text", "text": "x"}]
    [item] = body({"role": "tool", "tool_call_id": "c1", "content": parts})["input"]
    assert item["output"] == "six"


def test_a_message_of_calls_alone_has_no_empty_text():
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert [item["type"] for item in body(message)["input"]] == ["function_call"]


HISTORY = (
    SYSTEM,
    ASKED,
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "How are you?"},
)
SESSION = {"response_id": "resp_1"}


def test_a_kept_session_sends_only_what_is_new():
    sent = body(*HISTORY, session=SESSION, keep_session=True)
    assert sent["previous_response_id"] == "resp_1"
    assert sent["store"] is True
    assert sent["input"] == [SYSTEM, HISTORY[-1]]


def test_the_first_turn_of_a_session_sends_everything():
    sent = body(*HISTORY, keep_session=True)
    assert "previous_response_id" not in sent
    assert sent["store"] is True
    assert len(sent["input"]) == len(HISTORY)


def test_a_session_that_is_not_to_be_kept_is_not_used():
    sent = body(*HISTORY, session=SESSION)
    assert "previous_response_id" not in sent
    assert "store" not in sent
    assert len(sent["input"]) == len(HISTORY)


def test_tool_results_of_this_turn_go_with_the_question():
    sent = body(
        *HISTORY,
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "fine"},
        session=SESSION,
        keep_session=True,
    )
    kinds = [item.get("type") or item["role"] for item in sent["input"]]
    assert kinds == [
        "system",
        "user",
        "assistant",
        "function_call",
        "function_call_output",
    ]
