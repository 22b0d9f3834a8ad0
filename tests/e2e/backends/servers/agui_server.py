"""An AG-UI agent of pydantic-ai with the scripted model: agui_server.py PORT UPSTREAM.

Runs in the environment of requirements/programs/agui.txt.
"""

from __future__ import annotations

import sys

import uvicorn
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.ui.ag_ui import AGUIAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

PORT, UPSTREAM = int(sys.argv[1]), sys.argv[2]
provider = OpenAIProvider(base_url=f"{UPSTREAM}/v1", api_key="x")
agent = Agent(OpenAIChatModel("gpt-4o-mini", provider=provider))


@agent.tool_plain
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"21 degrees in {city}"


async def run(request: Request) -> Response:
    return await AGUIAdapter.dispatch_request(request, agent=agent)


async def health(request: Request) -> Response:
    return PlainTextResponse("ok")


routes = [Route("/", run, methods=["POST"]), Route("/health", health)]
uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=PORT, log_level="warning")
