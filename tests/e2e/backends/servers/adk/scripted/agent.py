"""An agent of Google's ADK; its model's address comes from the environment.

Runs in the environment of requirements/programs/adk.txt.
"""

from google.adk.agents import Agent


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"21 degrees in {city}"


root_agent = Agent(
    name="scripted",
    model="gemini-2.5-flash",
    instruction="Answer.",
    tools=[get_weather],
)
