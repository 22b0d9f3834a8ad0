"""An agent of Google's ADK that asks before it uses a tool, and can save a file.

Runs in the environment of requirements/programs/adk.txt.
"""

from google.adk.agents import Agent
from google.adk.tools import FunctionTool, ToolContext
from google.genai import types


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"21 degrees in {city}"


async def run_shell_command(
    command: str, description: str, tool_context: ToolContext
) -> str:
    """Save a report; the script knows the tool by the name of a shell."""
    report = types.Part.from_bytes(data=b"scripted report\n", mime_type="text/plain")
    await tool_context.save_artifact("report.txt", report)
    return "saved"


root_agent = Agent(
    name="careful",
    model="gemini-2.5-flash",
    instruction="Answer.",
    tools=[FunctionTool(get_weather, require_confirmation=True), run_shell_command],
)
