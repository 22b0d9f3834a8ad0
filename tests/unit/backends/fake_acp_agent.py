"""A small ACP agent for what real ones do not do on demand.

The first word of a prompt says what it does. Options: `load` and `resume` are its
capabilities, `locked` wants a login, `deaf` never answers, `hanging` opens no session,
`broken` ends at once.
Format: Agent Client Protocol, version 1.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

OPTIONS = set(sys.argv[1:])
ALWAYS = {"optionId": "always", "kind": "allow_always", "name": "Always"}
NEVER = {"optionId": "never", "kind": "reject_always", "name": "Never"}
ONCE = {"optionId": "once", "kind": "allow_once", "name": "Once"}
REJECT = {"optionId": "reject", "kind": "reject_once", "name": "Reject"}
MODES = [{"id": "plan", "name": "Plan"}, {"id": "edit", "name": "Edit"}]
MODELS = [{"modelId": "small", "name": "Small"}, {"modelId": "big", "name": "Big"}]
OFFERED = {
    "modes": {"availableModes": MODES, "currentModeId": "edit"},
    "models": {"availableModels": MODELS, "currentModelId": "small"},
}


def send(**message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def receive() -> dict[str, Any]:
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return dict(json.loads(line))


class Session:
    """One conversation; its prompts are kept in the folder it works in."""

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.file = Path(f".{session_id}.json")
        self.heard = json.loads(self.file.read_text()) if self.file.exists() else []
        self.chosen: list[str] = []
        self.folder = ""

    def update(self, update_kind: str, **fields: Any) -> None:
        update = {"sessionUpdate": update_kind, **fields}
        send(method="session/update", params={"sessionId": self.id, "update": update})

    def say(self, text: str, kind: str = "agent_message_chunk") -> None:
        self.update(kind, content={"type": "text", "text": text})

    def prompt(self, blocks: list[dict[str, Any]]) -> str:
        """Do what the prompt says; gives the reason why the turn stops."""
        text = blocks[0]["text"]
        self.heard.append(text)
        self.file.write_text(json.dumps(self.heard))
        word = text.split()[-1]
        act = getattr(self, f"do_{word}", None)
        if act is None:
            self.say(f"heard {len(self.heard)}: {text}")
            return "end_turn"
        return act(blocks) or "end_turn"

    def ask(self, *options: dict[str, Any]) -> None:
        call = {
            "toolCallId": "call-1",
            "title": "Write out.txt",
            "kind": "edit",
            "rawInput": {"path": "out.txt"},
            "locations": [{"path": f"{os.getcwd()}/out.txt"}],
        }
        self.update("tool_call", **call, status="pending")
        params = {"sessionId": self.id, "toolCall": call, "options": list(options)}
        send(id="ask-1", method="session/request_permission", params=params)
        outcome = receive()["result"]["outcome"]
        self.update("tool_call_update", toolCallId="call-1", status="completed")
        self.say(f"outcome: {outcome.get('optionId', outcome['outcome'])}")

    def do_permission(self, _: Any) -> None:
        self.ask(ALWAYS, ONCE, NEVER, REJECT)

    def do_forever(self, _: Any) -> None:
        self.ask(ALWAYS, NEVER)

    def do_noise(self, _: Any) -> None:
        sys.stdout.write('this is no JSON\n["neither", "is", "this"]\n')
        self.update("something_new", content={"type": "text", "text": "no"})
        self.update("tool_call", toolCallId=None, content="odd", locations=7)
        send(id=7, method="fs/read_text_file", params={"path": "/etc/passwd"})
        answer = receive()
        self.say(f"refused with {answer['error']['code']}")

    def do_crash(self, _: Any) -> None:
        self.say("Half an ans")
        sys.stderr.write(f"no such key: {os.environ['AGENT_KEY']}\n")
        sys.exit(3)

    def do_secret(self, _: Any) -> None:
        raise ValueError(f"the key {os.environ['AGENT_KEY']} was refused")

    def do_slow(self, _: Any) -> str:
        self.say("One moment.")
        while receive().get("method") != "session/cancel":
            pass
        return "cancelled"

    def do_command(self, _: Any) -> str:
        """Leave a process behind on cancel that is no child of ours any more."""
        script = "import subprocess as s; s.Popen(['sleep', '7777'])"
        subprocess.run([sys.executable, "-c", script], start_new_session=True)
        return self.do_slow(_)

    def do_hang(self, _: Any) -> None:
        """Neither hear the cancel nor any signal that can be refused."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self.do_command(_)
        while True:
            signal.pause()

    def do_write(self, _: Any) -> None:
        Path("out.txt").write_text("made")
        Path("sub").mkdir(exist_ok=True)
        Path("sub/also.md").write_text("made, too")
        Path(".hidden").write_text("not for others")
        os.symlink("/etc/passwd", "link.txt")
        self.say("Written.")

    def do_blocks(self, blocks: list[dict[str, Any]]) -> None:
        self.say(" ".join(block["type"] for block in blocks))

    def do_where(self, _: Any) -> None:
        self.say(self.folder)

    def do_environment(self, _: Any) -> None:
        self.say(" ".join(sorted(os.environ)))

    def do_chosen(self, _: Any) -> None:
        self.say(" ".join(self.chosen))

    def do_silence(self, _: Any) -> None:
        while True:
            signal.pause()


SESSIONS: dict[str, Session] = {}


def handle(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        kinds = {kind: True for kind in ("image", "embeddedContext") if kind in OPTIONS}
        able: dict[str, Any] = {"promptCapabilities": kinds}
        able["loadSession"] = "load" in OPTIONS
        able["sessionCapabilities"] = {"resume": {}} if "resume" in OPTIONS else {}
        return {"protocolVersion": 1, "agentCapabilities": able}
    if method == "authenticate":
        OPTIONS.discard("locked")
        return {}
    if method == "session/new":
        session = Session(uuid.uuid4().hex)
        session.folder = params["cwd"]
        SESSIONS[session.id] = session
        return {"sessionId": session.id, **OFFERED}
    session_id = str(params.get("sessionId"))
    if method in ("session/load", "session/resume"):
        session = SESSIONS[session_id] = Session(session_id)
        if not session.heard:
            raise LookupError("no such session")
        if method == "session/load":
            for text in session.heard:
                session.say(text, "user_message_chunk")
                session.say(f"replayed {text}")
        return OFFERED
    session = SESSIONS[session_id]
    if method == "session/prompt":
        return {"stopReason": session.prompt(params["prompt"])}
    session.chosen.append(str(params.get("modeId") or params.get("modelId")))
    return {}


def main() -> None:
    if "broken" in OPTIONS:
        sys.exit("not today")
    while True:
        message = receive()
        if "deaf" in OPTIONS or "id" not in message:
            continue
        try:
            if "hanging" in OPTIONS and message["method"] == "session/new":
                continue
            if "locked" in OPTIONS and message["method"] == "session/new":
                error = {"code": -32000, "message": "Authentication required"}
                send(id=message["id"], error=error)
                continue
            result = handle(message["method"], message["params"])
            send(id=message["id"], result=result)
        except (LookupError, ValueError) as error:
            told = {"code": -32603, "message": "Internal error"}
            send(id=message["id"], error={**told, "data": {"details": str(error)}})


if __name__ == "__main__":
    main()
