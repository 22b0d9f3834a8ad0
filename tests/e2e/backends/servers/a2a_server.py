"""An A2A agent with the scripted model behind it: a2a_server.py PORT UPSTREAM.

What it does is chosen by a word in the message: INPUT_REQUIRED asks for a city,
MAKE_FILE makes report.txt, attached files are named and measured, everything else is
asked of the model, whose calls of get_weather it answers itself. GET /tasks tells
what it was told and how that ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import uvicorn
from a2a.compat.v0_3.conversions import to_compat_agent_card
from a2a.helpers import (
    get_message_text,
    new_data_part,
    new_raw_part,
    new_task_from_user_message,
    new_text_part,
)
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import (
    create_agent_card_routes,
    create_jsonrpc_routes,
    create_rest_routes,
)
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

PORT, UPSTREAM = int(sys.argv[1]), sys.argv[2]
URL = f"http://127.0.0.1:{PORT}"
JOURNAL: list[dict[str, str]] = []


class ScriptedAgent(AgentExecutor):
    """Answers a message, each in an asyncio task that `cancel` can end."""

    def __init__(self) -> None:
        self.running: dict[str, asyncio.Task[Any]] = {}

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        goes_on = context.current_task is not None
        task = context.current_task or new_task_from_user_message(context.message)
        if not goes_on:
            await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        entry = {"id": task.id, "context": task.context_id, "ended": ""}
        entry["text"] = get_message_text(context.message)
        JOURNAL.append(entry)
        self.running[task.id] = asyncio.current_task()
        try:
            entry["ended"] = await self.answer(context.message, updater, goes_on)
        except asyncio.CancelledError:
            entry["ended"] = "canceled"
            raise
        finally:
            self.running.pop(task.id, None)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        if running := self.running.get(context.task_id):
            running.cancel()
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()

    async def answer(self, message: Any, updater: TaskUpdater, goes_on: bool) -> str:
        """Say everything; returns how the task ended."""

        def said(*parts: Any) -> Any:
            return updater.new_agent_message(list(parts))

        text = get_message_text(message)
        await updater.start_work(said(new_text_part("Thinking about it")))
        if goes_on:
            await updater.add_artifact([new_text_part(f"You chose {text}.")])
            await updater.complete()
            return "completed"
        if "INPUT_REQUIRED" in text:
            await updater.requires_input(said(new_text_part("Which city?")))
            return "input required"
        if files := [
            part
            for part in message.parts
            if part.WhichOneof("content") in ("raw", "url")
        ]:
            lines = [
                f"{f.filename}: {len(f.raw)} bytes {f.url}".rstrip() for f in files
            ]
            await updater.add_artifact([new_text_part("\n".join(lines))])
        elif "MAKE_FILE" in text:
            report = new_raw_part(
                b"scripted report\n", media_type="text/plain", filename="report.txt"
            )
            await updater.add_artifact([report], name="report.txt")
        else:
            error = await self.ask_model(text, updater)
            if error:
                await updater.failed(said(new_text_part(error)))
                return "failed"
        await updater.complete()
        return "completed"

    async def ask_model(self, text: str, updater: TaskUpdater) -> str:
        """Stream the model's answer into one artifact; returns its error or ""."""
        messages: list[dict[str, Any]] = [{"role": "user", "content": text}]
        started = False
        while True:
            call: dict[str, Any] = {}
            try:
                async for delta in model_deltas(messages):
                    if delta.get("content"):
                        await updater.add_artifact(
                            [new_text_part(delta["content"])],
                            artifact_id="answer",
                            append=started,
                        )
                        started = True
                    for piece in delta.get("tool_calls") or ():
                        function = piece["function"]
                        call.setdefault("id", piece.get("id"))
                        call.setdefault("name", function.get("name"))
                        call["arguments"] = call.get("arguments", "") + function.get(
                            "arguments", ""
                        )
            except httpx.HTTPError as error:
                return f"The model failed: {error}"
            if not call:
                return ""
            doing = {"tool": call["name"], "arguments": json.loads(call["arguments"])}
            await updater.start_work(updater.new_agent_message([new_data_part(doing)]))
            messages += tool_round(call)


async def model_deltas(messages: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    """The deltas of one streamed chat completion."""
    body = {"model": "gpt-4o-mini", "stream": True, "messages": messages}
    async with (
        httpx.AsyncClient(timeout=None, trust_env=False) as client,
        client.stream("POST", f"{UPSTREAM}/v1/chat/completions", json=body) as response,
    ):
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    yield choice["delta"]


def tool_round(call: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages that tell the model of its call and of the result."""
    function = {"name": call["name"], "arguments": call["arguments"]}
    calls = [{"id": call["id"], "type": "function", "function": function}]
    return [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": call["id"], "content": "21 degrees"},
    ]


def card(path: str, binding: str, version: str) -> AgentCard:
    """A card that names one way to reach the agent."""
    return AgentCard(
        name="Scripted A2A",
        description="An agent for tests",
        version="1.0.0",
        supported_interfaces=[
            AgentInterface(
                url=URL + path, protocol_binding=binding, protocol_version=version
            )
        ],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain", "image/png"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="chat", name="chat", description="chats", tags=["chat"])],
    )


def old_card_route(card: AgentCard) -> Route:
    """Where a card is read as 0.3 writes it."""
    compat = to_compat_agent_card(card)
    content = compat.model_dump(mode="json", by_alias=True, exclude_none=True)

    async def old_card(request: Request) -> JSONResponse:
        return JSONResponse(content)

    return Route("/.well-known/agent-card.json", old_card)


def application() -> Starlette:
    """One agent, mounted four times: its ways to be reached differ."""
    jsonrpc = card("/jsonrpc/", "JSONRPC", "1.0")
    rest = card("/rest/api", "HTTP+JSON", "1.0")
    old = card("/v03/", "JSONRPC", "0.3")
    old_rest = card("/v03rest/api", "HTTP+JSON", "0.3")
    handler = DefaultRequestHandler(
        agent_executor=ScriptedAgent(),
        task_store=InMemoryTaskStore(),
        agent_card=jsonrpc,
    )

    async def tasks(request: Request) -> JSONResponse:
        return JSONResponse(JOURNAL)

    calls = create_jsonrpc_routes(handler, "/")
    old_calls = create_jsonrpc_routes(handler, "/", enable_v0_3_compat=True)
    rest_calls = create_rest_routes(handler, path_prefix="/api")
    old_rest_calls = create_rest_routes(
        handler, path_prefix="/api", enable_v0_3_compat=True
    )
    return Starlette(
        routes=[
            Route("/tasks", tasks),
            Mount("/jsonrpc", routes=[*create_agent_card_routes(jsonrpc), *calls]),
            Mount("/rest", routes=[*create_agent_card_routes(rest), *rest_calls]),
            Mount("/v03", routes=[old_card_route(old), *old_calls]),
            Mount("/v03rest", routes=[old_card_route(old_rest), *old_rest_calls]),
        ]
    )


uvicorn.run(application(), host="127.0.0.1", port=PORT, log_level="warning")
