"""Tool calls that a model leaks as text become real ones, while they stream."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from shared.toolcalls.options import RecoveryOptions
from shared.toolcalls.recovery import RecoveryCall, mend_saved, recover_event
from shared.toolcalls.sentences import recovery_sentence
from shared.toolcalls.streams import StreamStore

log = logging.getLogger("aqueduct.tool_call_recovery")

Emitter = Callable[[dict[str, Any]], Awaitable[None]]


class Filter:
    """Stream: leaked text to `delta.tool_calls`. Outlet: saved messages without it."""

    class Valves(RecoveryOptions):
        pass

    def __init__(self) -> None:
        self.valves = self.Valves()
        self._streams = StreamStore()

    async def request(
        self,
        body: dict[str, Any],
        __metadata__: Mapping[str, Any] | None = None,
        __request__: Any = None,
    ) -> dict[str, Any]:
        """The body as it came; its tools are kept for the stream of an API call."""
        self._call(__metadata__, body, None, __request__).remember_tools()
        return body

    async def stream(
        self,
        event: dict[str, Any],
        __metadata__: Mapping[str, Any] | None = None,
        __body__: Mapping[str, Any] | None = None,
        __model__: Mapping[str, Any] | None = None,
        __request__: Any = None,
        __event_emitter__: Emitter | None = None,
    ) -> dict[str, Any] | None:
        """The event with leaked calls as real ones, or None when nothing is left."""
        call = self._call(__metadata__, __body__, __model__, __request__)
        try:
            passed, found = recover_event(event, call, self._streams)
        except Exception:
            # A filter that raises loses the chunk; the text matters more.
            log.exception("A chunk could not be scanned and goes on as it is")
            return event
        for one in found:
            if call.options.debug_log:
                log.info("Recovered a call to %s (%s)", one.name, one.family)
            if call.options.show_status and call.metadata.get("message_id"):
                await _tell(__event_emitter__, call.metadata, one.name)
        return passed

    async def outlet(
        self,
        body: dict[str, Any],
        __metadata__: Mapping[str, Any] | None = None,
        __model__: Mapping[str, Any] | None = None,
        __request__: Any = None,
    ) -> dict[str, Any]:
        """The messages without leaked markup; nothing is executed."""
        call = self._call(__metadata__, None, __model__, __request__)
        try:
            # A long branch takes longer than the event loop should wait.
            await asyncio.to_thread(mend_saved, body, call, self._streams)
        except Exception:
            log.exception("The saved messages could not be cleaned")
        return body

    def _call(
        self,
        metadata: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        model: Mapping[str, Any] | None,
        request: Any,
    ) -> RecoveryCall:
        return RecoveryCall(
            self.valves, metadata or {}, body or {}, model or {}, request
        )


async def _tell(
    emitter: Emitter | None, metadata: Mapping[str, Any], tool: str
) -> None:
    if emitter is not None:
        description = recovery_sentence("recovered", metadata, tool=tool)
        await emitter(
            {"type": "status", "data": {"description": description, "done": True}}
        )
