"""What the scripted model answers, chosen by a word in the last thing the user said.

The first entry that fits counts. Formats: aimock's fixtures, see its README.
"""

from __future__ import annotations

from typing import Any

Fixture = dict[str, Any]

HELLO = "Hello from the scripted model. This text is streamed in several small chunks."
THOUGHT = "The user greets me; I should think a little first."
AFTER_THOUGHT = "Hello after thinking."
TOOL_INTRODUCTION = "I will use a tool. "
TOOL_ANSWER = "Tool finished. Final scripted answer: it is **21 degrees** in Bern."
# Twenty seconds: whoever has the whole of it did not stop.
SLOW = " ".join(f"word{number}" for number in range(100))


def fixture(word: str, response: Any, **options: Any) -> Fixture:
    """An answer to a message with `word` in it, in small pieces."""
    pace = {"chunkSize": 12, "latency": 15}
    return {"match": {"userMessage": word}, "response": response, **pace, **options}


def tool(word: str, name: str, **arguments: Any) -> Fixture:
    """A call of the agent's tool `name`; `after_tool` says what follows its result."""
    call = {"name": name, "arguments": arguments}
    return fixture(word, {"content": TOOL_INTRODUCTION, "toolCalls": [call]})


def after_tool(word: str, text: str) -> Fixture:
    """An answer once a tool has run for the message with `word` in it."""
    match = {"userMessage": word, "hasToolResult": True}
    return fixture(word, {"content": text}, match=match)


def error(word: str, status: int, message: str, kind: str, code: str = "") -> Fixture:
    said = {"message": message, "type": kind, "code": code or kind}
    return fixture(word, {"error": said, "status": status})


def shell(suffix: str, name: str, key: str = "command") -> list[Fixture]:
    """Commands for an agent's shell: TOOL_… reads, WRITE_… writes, SLEEP_… hangs."""
    extra = {} if key == "cmd" else {"description": "a command"}
    return [
        tool(f"TOOL_{suffix}", name, **{key: "echo scripted-tool-21", **extra}),
        tool(f"WRITE_{suffix}", name, **{key: "touch scripted.txt", **extra}),
        tool(f"SLEEP_{suffix}", name, **{key: "sleep 7777", **extra}),
    ]


SCRIPT: list[Fixture] = [
    error("ERR400", 400, "Scripted bad request", "invalid_request_error"),
    error("ERR401", 401, "Invalid API key (scripted)", "authentication_error"),
    error("ERR429", 429, "Rate limit reached (scripted)", "rate_limit_error"),
    error("ERR500", 500, "Scripted upstream failure", "server_error"),
    error("ERR529", 529, "Overloaded (scripted)", "overloaded_error"),
    fixture("CUTOFF", {"content": SLOW}, truncateAfterChunks=4),
    fixture("SLOWLY", {"content": SLOW}, chunkSize=6, latency=200),
    fixture("THINK", {"reasoning": THOUGHT, "content": AFTER_THOUGHT}),
    after_tool("TOOL_", TOOL_ANSWER),
    after_tool("WRITE_", TOOL_ANSWER),
    after_tool("SLEEP_", TOOL_ANSWER),
    tool("TOOL_WEATHER", "get_weather", city="Bern"),
    tool("TOOL_LETTA", "conversation_search", query="weather"),
    tool("TOOL_DELETE", "delete_file", path="/notes/old.txt"),
    *shell("CLAUDE", "Bash"),
    *shell("GEMINI", "run_shell_command"),
    *shell("OPENCODE", "bash"),
    *shell("CODEX", "exec_command", key="cmd"),
    fixture("", {"content": HELLO}, match={}),
]
