"""An AG-UI agent of pydantic-ai with the scripted model: agui_server.py PORT UPSTREAM.

Its tool delete_file asks for permission. GET /runs tells how each run ended. Runs in
the environment of requirements/programs/agui.txt.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import uvicorn
from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.ui.ag_ui import AGUIAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

PORT, UPSTREAM = int(sys.argv[1]), sys.argv[2]
provider = OpenAIProvider(base_url=f"{UPSTREAM}/v1", api_key="x")
model = OpenAIChatModel("gpt-4o-mini", provider=provider)
agent = Agent(model, output_type=[str, DeferredToolRequests])
RUNS: list[str] = []


@agent.tool_plain
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"21 degrees in {city}"


@agent.tool_plain(requires_approval=True)
def delete_file(path: str) -> str:
    """Delete a file."""
    return f"{path} is gone"


async def run(request: Request) -> Response:
    response = await AGUIAdapter.dispatch_request(
        request, agent=agent, include_usage=True
    )
    if hasattr(response, "body_iterator"):
        response.body_iterator = noted(response.body_iterator)
    return response


async def noted(body: AsyncIterator[str]) -> AsyncIterator[str]:
    """The body of an answer; how it ended is written down."""
    number = len(RUNS)
    RUNS.append("running")
    try:
        async for piece in body:
            yield piece
        RUNS[number] = "finished"
    finally:
        if RUNS[number] == "running":
            RUNS[number] = "cut off"


async def runs(request: Request) -> Response:
    return JSONResponse(RUNS)


routes = [Route("/", run, methods=["POST"]), Route("/runs", runs)]
uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=PORT, log_level="warning")
