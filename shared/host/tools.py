"""Running Open WebUI's own tools."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from shared.events import ToolCallCompleted, ToolResult
from shared.host.users import user_model

NOT_APPROVED = "Error: the user did not approve this tool call."


@dataclass(frozen=True, slots=True)
class HostToolRunner:
    """Runs the tools of one request as Open WebUI's own loop would.

    `metadata["tools"]` maps names to Open WebUI's tool entries.
    """

    request: Any
    user: Mapping[str, Any]
    body: Mapping[str, Any]
    metadata: Mapping[str, Any]
    event_call: Callable[[dict[str, Any]], Awaitable[Any]] | None

    def knows(self, name: str) -> bool:
        return name in (self.metadata.get("tools") or {})

    async def run(self, call: ToolCallCompleted) -> ToolResult:
        """The result of one call; a tool's own error is a failed result."""
        from open_webui.utils.middleware import (
            execute_tool_call,
            process_tool_result,
            tool_result_content,
        )

        if not await self._approved(call):
            return ToolResult(call.call_id, NOT_APPROVED, failed=True)
        request_call = {
            "id": call.call_id,
            "function": {"name": call.name, "arguments": call.arguments},
        }
        _, value, _, tool_type, direct = await execute_tool_call(
            dict(self.body), self._approved_metadata(), self.event_call, request_call
        )
        failed = isinstance(value, dict) and set(value) == {"error"}
        user = user_model(self.user)
        value, files, embeds = await process_tool_result(
            self.request,
            call.name,
            value,
            tool_type,
            direct,
            dict(self.metadata),
            user,
        )
        shown = tuple(
            file for file in files or () if not str(file.get("url")).startswith("data:")
        )
        return ToolResult(
            call.call_id,
            tool_result_content(value),
            failed=failed,
            files=shown,
            embeds=tuple(embeds or ()),
        )

    async def _approved(self, call: ToolCallCompleted) -> bool:
        """Whether the user's setting "ask before tools" lets this call pass.

        Open WebUI asks by pausing its own loop, which is not running here, so the
        dialog of its temporary chats is used. Without a browser nothing is approved.
        """
        mode = (self.metadata.get("params") or {}).get("tool_approval_mode")
        if mode != "ask":
            return True
        if self.event_call is None or not self.metadata.get("session_id"):
            return False
        question = {
            "id": call.call_id,
            "name": call.name,
            "arguments": orjson.loads(call.arguments),
        }
        answer = await self.event_call(
            {"type": "confirmation", "data": {"tool_call": question}}
        )
        return answer is True

    def _approved_metadata(self) -> dict[str, Any]:
        """The metadata once the call is approved: it must not be asked for twice."""
        params = {**(self.metadata.get("params") or {}), "tool_approval_mode": "full"}
        return {**self.metadata, "params": params}
