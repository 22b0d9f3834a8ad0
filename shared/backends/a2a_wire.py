"""A2A requests and cards in the dialects agents speak: 1.0 and 0.3, JSON-RPC and REST.

Formats: A2A Protocol Specification 1.0 and 0.3.0. In 0.3 a message over HTTP+JSON is
written as protobuf's JSON, over JSON-RPC as plain JSON with `kind`; in 1.0 both are
protobuf's JSON.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shared.backends.addresses import path_part
from shared.backends.encoding import encode_base64
from shared.backends.payloads import error_detail, must_be_object
from shared.backends.transcript import TurnFile
from shared.errors import UpstreamBroken, UpstreamUnreachable

Operation = Literal["send", "stream", "subscribe", "get", "cancel"]

# The JSON-RPC methods of 1.0 and of 0.3.
RPC_METHODS: Mapping[Operation, tuple[str, str]] = {
    "send": ("SendMessage", "message/send"),
    "stream": ("SendStreamingMessage", "message/stream"),
    "subscribe": ("SubscribeToTask", "tasks/resubscribe"),
    "get": ("GetTask", "tasks/get"),
    "cancel": ("CancelTask", "tasks/cancel"),
}
REST_PATHS: Mapping[Operation, tuple[str, str]] = {
    "send": ("POST", "/message:send"),
    "stream": ("POST", "/message:stream"),
    "subscribe": ("POST", "/tasks/{id}:subscribe"),
    "get": ("GET", "/tasks/{id}"),
    "cancel": ("POST", "/tasks/{id}:cancel"),
}


@dataclass(frozen=True, slots=True)
class A2ARequest:
    """An HTTP request; `path` is added to the interface's address."""

    method: str
    path: str
    body: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class A2AInterface:
    """One way to speak with an agent, as its card names it."""

    url: str
    rest: bool
    legacy: bool  # version 0.3
    tenant: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """Without this header a server takes a request for one of version 0.3."""
        return {} if self.legacy else {"A2A-Version": "1.0"}

    def request(self, operation: Operation, params: Mapping[str, Any]) -> A2ARequest:
        """The request for an operation; `params` holds `message` or a task's `id`."""
        if self.rest:
            return self._rest_request(operation, params)
        if self.tenant:
            params = {**params, "tenant": self.tenant}
        body = {
            "jsonrpc": "2.0",
            "id": str(uuid.uuid4()),
            "method": RPC_METHODS[operation][self.legacy],
            "params": params,
        }
        # An address is joined without its last slash, which some servers insist on.
        return A2ARequest("POST", "/" if self.url.endswith("/") else "", body)

    def _rest_request(
        self, operation: Operation, params: Mapping[str, Any]
    ) -> A2ARequest:
        method, path = REST_PATHS[operation]
        prefix = "/v1" if self.legacy else f"/{self.tenant}" if self.tenant else ""
        path = prefix + path.replace("{id}", path_part(str(params.get("id", ""))))
        if method == "GET":
            return A2ARequest(method, path, None)
        body = {key: value for key, value in params.items() if key != "id"}
        return A2ARequest(method, path, body)

    def message(
        self,
        text: str,
        files: Iterable[TurnFile] = (),
        context_id: str = "",
        task_id: str = "",
    ) -> dict[str, Any]:
        """A user's message in this dialect."""
        plain_legacy = self.legacy and not self.rest
        message: dict[str, Any] = {
            "messageId": str(uuid.uuid4()),
            "role": "user" if plain_legacy else "ROLE_USER",
        }
        parts = [self._text_part(text)] if text else []
        parts += [self._file_part(file) for file in files]
        message["content" if self.legacy and self.rest else "parts"] = parts
        if plain_legacy:
            message["kind"] = "message"
        if context_id:
            message["contextId"] = context_id
        if task_id:
            message["taskId"] = task_id
        return message

    def _text_part(self, text: str) -> dict[str, Any]:
        if self.legacy and not self.rest:
            return {"kind": "text", "text": text}
        return {"text": text}

    def _file_part(self, file: TurnFile) -> dict[str, Any]:
        encoded = file.encoded if file.inline else ""
        if not self.legacy:
            place = {"raw": encoded} if encoded else {"url": file.url}
            return {**place, "mediaType": file.mime_type, "filename": file.name}
        named = {"mimeType": file.mime_type, "name": file.name}
        if self.rest:
            # The protocol's own SDK encodes the text of an encoding once more.
            twice = encode_base64(encoded.encode())
            field = "fileWithBytes" if encoded else "fileWithUri"
            return {"file": {field: twice or file.url, **named}}
        field = "bytes" if encoded else "uri"
        return {"kind": "file", "file": {field: encoded or file.url, **named}}


def unwrap_result(payload: Any) -> Mapping[str, Any]:
    """What an answer or event of either binding says; raises UpstreamBroken.

    JSON-RPC wraps it in {jsonrpc, id, result}; an error is {error: {message}} in both.
    """
    answer = must_be_object(payload)
    if answer.get("error"):
        raise UpstreamBroken("said_error", detail=error_detail(answer))
    return must_be_object(answer.get("result", answer))


def card_interfaces(card: Mapping[str, Any]) -> list[A2AInterface]:
    """The interfaces of a card that we can speak with, in the agent's order.

    Cards of 1.0 list them; those of 0.3 have one in `url` and more beside it.
    """
    listed = [*(card.get("supportedInterfaces") or ())]
    if not listed:
        version = card.get("protocolVersion") or "0.3"
        main = {
            "url": card.get("url"),
            "protocolBinding": card.get("preferredTransport") or "JSONRPC",
        }
        listed = [
            {**entry, "protocolVersion": version}
            for entry in (main, *(card.get("additionalInterfaces") or ()))
        ]
    found: list[A2AInterface] = []
    for entry in listed:
        binding = str(entry.get("protocolBinding") or entry.get("transport") or "")
        url = entry.get("url")
        if url and binding.upper() in ("JSONRPC", "HTTP+JSON"):
            rest = binding.upper() == "HTTP+JSON"
            legacy = str(entry.get("protocolVersion") or "1.0").startswith("0.")
            tenant = str(entry.get("tenant") or "")
            found.append(A2AInterface(str(url), rest, legacy, tenant))
    return found


def choose_interface(
    card: Mapping[str, Any], binding: str = "", version: str = ""
) -> A2AInterface:
    """The agent's first interface, 1.0 before 0.3; raises UpstreamUnreachable.

    `binding` ("jsonrpc" or "http+json") and `version` ("1.0" or "0.3") limit it.
    """
    fitting = [
        interface
        for interface in card_interfaces(card)
        if (not binding or interface.rest == (binding == "http+json"))
        and (not version or interface.legacy == (version == "0.3"))
    ]
    if not fitting:
        raise UpstreamUnreachable("a2a_no_interface")
    return min(fitting, key=lambda interface: interface.legacy)
