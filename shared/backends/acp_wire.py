"""JSON-RPC 2.0 in lines between an ACP agent and us.

Format: Agent Client Protocol, version 1, "Transports" (stdio) and "Overview". Messages
stay plain JSON: the protocol tells clients to pass over what they do not know, and
agents do send what no release of it lists yet.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from shared.backends.payloads import error_detail, load_json
from shared.backends.processes import AgentProcess
from shared.backends.processes_errors import failure_code, plain_detail
from shared.backends.sse import LineBuffer
from shared.errors import UpstreamBroken, UpstreamError, UpstreamSilent
from shared.json_text import dump_json

# A line holds a whole message, with a file or a picture in it.
MAX_ACP_LINE = 64 * 1024 * 1024
METHOD_NOT_FOUND = -32601
# ACP's "authentication required", and the HTTP status that some hand through.
LOGIN_NUMBERS = (-32000, 401)

acp_log = logging.getLogger("aqueduct.acp")

AcpMessage = Mapping[str, Any]


class AcpRefused(UpstreamBroken):
    """The agent answered a request with a JSON-RPC error; `number` is its code."""

    def __init__(self, code: str, number: int, detail: str) -> None:
        super().__init__(code, detail=detail)
        self.number = number


class AcpConnection:
    """The talk with one agent's process.

    What the agent says by itself waits in `incoming`, in order, and so does the
    response to a request that was `sent` and not `called`; None is the end, whose
    reason is `end`.
    """

    def __init__(self, process: AgentProcess) -> None:
        self.process = process
        self.incoming: asyncio.Queue[AcpMessage | None] = asyncio.Queue()
        self.end: UpstreamError | None = None
        self._last_id = 0
        self._calls: dict[int, asyncio.Future[AcpMessage]] = {}
        self._reading = asyncio.create_task(self._read())

    async def call(
        self, method: str, params: Mapping[str, Any], seconds: float
    ) -> Mapping[str, Any]:
        """The result of a request; AcpRefused for an error, UpstreamSilent for none."""
        if self.end is not None:
            raise self.end
        number = self.new_id()
        response = self._calls[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._send({"id": number, "method": method, "params": params})
                return self.result(await response)
        except TimeoutError:
            error = UpstreamSilent("program_silent", seconds=seconds)
            self._ended(error)
            raise error from None
        finally:
            self._calls.pop(number, None)

    def new_id(self) -> int:
        """An id for a request, to be known before it is sent."""
        self._last_id += 1
        return self._last_id

    async def send(self, number: int, method: str, params: Mapping[str, Any]) -> None:
        """Send a request: the response comes into `incoming`."""
        await self._send({"id": number, "method": method, "params": params})

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        await self._send({"method": method, "params": params})

    async def answer(self, request: AcpMessage, result: Mapping[str, Any]) -> None:
        """Answer a request of the agent."""
        await self._send({"id": request["id"], "result": result})

    async def decline(self, request: AcpMessage) -> None:
        """Tell the agent that we do not do what it requests."""
        error = {"code": METHOD_NOT_FOUND, "message": "Method not found"}
        await self._send({"id": request["id"], "error": error})

    def result(self, response: AcpMessage) -> Mapping[str, Any]:
        """What a response holds; raises AcpRefused when that is an error."""
        error = response.get("error")
        if error is None:
            return as_object(response.get("result"))
        shown = self.process.without_secrets(error_sentence(as_object(error)))
        raise acp_error(as_object(error), shown)

    def forget_incoming(self) -> None:
        """Drop what the agent said so far, such as a replayed history."""
        while not self.incoming.empty():
            if self.incoming.get_nowait() is None:
                self.incoming.put_nowait(None)
                return

    async def close(self, gently: bool = False) -> None:
        """End the agent and all it started."""
        await self.process.stop(gently)
        self._reading.cancel()
        self._ended(UpstreamBroken("program_ended"))

    async def _send(self, message: dict[str, Any]) -> None:
        await self.process.write(dump_json({"jsonrpc": "2.0", **message}) + b"\n")

    async def _read(self) -> None:
        lines = LineBuffer(MAX_ACP_LINE)
        try:
            while data := await self.process.read():
                for line in lines.feed(data):
                    self._receive(line)
            self._ended(await self.process.ending())
        except UpstreamBroken as error:
            self._ended(error)
        except OSError:
            self._ended(UpstreamBroken("program_ended"))

    def _receive(self, line: bytes) -> None:
        try:
            message = load_json(line)
        except UpstreamBroken:
            # Some agents print to stdout what belongs on stderr.
            acp_log.debug("An agent sent a line that is no JSON (%d bytes)", len(line))
            return
        if not isinstance(message, Mapping):
            return
        call, number = None, message.get("id")
        if "method" not in message and isinstance(number, int):
            call = self._calls.pop(number, None)
        if call is None:
            self.incoming.put_nowait(message)
        elif not call.done():
            call.set_result(message)

    def _ended(self, error: UpstreamError) -> None:
        self.end = self.end or error
        for call in self._calls.values():
            if not call.done():
                call.set_exception(self.end)
        self._calls.clear()
        self.incoming.put_nowait(None)


def as_object(value: Any) -> Mapping[str, Any]:
    """An object, or an empty one in place of whatever else an agent sent."""
    return value if isinstance(value, Mapping) else {}


def acp_error(error: Mapping[str, Any], detail: str) -> AcpRefused:
    """The error for a JSON-RPC error object; `detail` is its sentence."""
    number = error.get("code")
    code = "login_expired" if number in LOGIN_NUMBERS else failure_code(detail)
    return AcpRefused(code, number if isinstance(number, int) else 0, detail)


def error_sentence(error: Mapping[str, Any]) -> str:
    """The sentence of a JSON-RPC error object, as agents fill it.

    Some have it in `data.message` or `data.details`, others a whole JSON text in
    `message`.
    """
    data = error.get("data")
    told = data.get("details", data) if isinstance(data, Mapping) else None
    return plain_detail(error_detail(told) or str(error.get("message") or ""))
