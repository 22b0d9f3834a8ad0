"""Requests and answers of well-known servers, for the webhook backend.

- n8n 2.40, tried: "Chat Trigger", "Webhook"; a stream is one JSON object a line.
- Dify: API reference, "Send Chat Message"; `event` is a field of every event. Not tried.
- Flowise: API reference, "Prediction"; with `streaming` an event is {event, data}. Of
  3.1, tokens and errors were tried.
"""

from collections.abc import Mapping
from typing import Any

WEBHOOK_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "n8n": {
        "request": {
            "action": "sendMessage",
            "sessionId": "{thread}",
            "chatInput": "{prompt}",
        },
        "answer": {
            "text": [
                {"path": "content", "when": {"type": "item"}},
                "output",
                "text",
                "[*].output",
                "[*].text",
            ],
            "error": [
                {"path": "content", "when": {"type": "error"}},
                # An agent that gave up names only its node.
                {"path": "metadata.nodeName", "when": {"type": "error"}},
                {"path": "message", "when": {"code": [0, 404, 500]}},
            ],
        },
    },
    "dify": {
        "request": {
            "inputs": {},
            "query": "{prompt}",
            "response_mode": "streaming",
            "conversation_id": "{session}",
            "user": "{user_id}",
        },
        "answer": {
            # An agent says all of its answer again in a last `message`.
            "text": [
                {"path": "answer", "when": {"event": "agent_message"}},
                {"path": "answer", "when": {"event": "message"}},
            ],
            "tools": [
                {
                    "when": {"event": "agent_thought"},
                    "name": "tool",
                    "arguments": "tool_input",
                    "result": "observation",
                }
            ],
            "session": "conversation_id",
            "task": "task_id",
            "usage": "metadata.usage",
            "error": [{"path": "message", "when": {"event": "error"}}],
            "done": [{"when": {"event": "message_end"}}],
        },
        "stop": {"suffix": "/{task}/stop", "request": {"user": "{user_id}"}},
    },
    "flowise": {
        "request": {
            "question": "{prompt}",
            "streaming": True,
            "overrideConfig": {"sessionId": "{thread}"},
            "uploads": "{files}",
        },
        "answer": {
            "text": [{"path": "data", "when": {"event": "token"}}, "text"],
            "tools": [
                {
                    "path": "data[*]",
                    "when": {"event": "usedTools"},
                    "name": "tool",
                    "arguments": "toolInput",
                    "result": "toolOutput",
                },
                {
                    "path": "usedTools[*]",
                    "name": "tool",
                    "arguments": "toolInput",
                    "result": "toolOutput",
                },
            ],
            "error": [{"path": "data", "when": {"event": "error"}}],
            "done": [{"when": {"event": "end"}}],
        },
    },
}
