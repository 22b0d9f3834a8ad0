"""Running Open WebUI's own tools."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.events import ToolCallCompleted, ToolResult


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
        from open_webui.models.users import UserModel
        from open_webui.utils.middleware import (
            execute_tool_call,
            process_tool_result,
            tool_result_content,
        )

        request_call = {
            "id": call.call_id,
            "function": {"name": call.name, "arguments": call.arguments},
        }
        _, value, _, tool_type, direct = await execute_tool_call(
            dict(self.body), dict(self.metadata), self.event_call, request_call
        )
        failed = isinstance(value, dict) and set(value) == {"error"}
        user = UserModel(**{k: v for k, v in self.user.items() if k != "valves"})
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
