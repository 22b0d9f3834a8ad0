"""Two LangGraph agents: one that may ask for a city, one that asks before its tool.

Runs in the environment of requirements/programs/langgraph.txt.
"""

import os

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"21 degrees in {city}"


model = ChatOpenAI(
    model="gpt-4o-mini",
    base_url=f"{os.environ['UPSTREAM']}/v1",
    api_key="x",
    max_retries=0,
    stream_usage=True,
)


async def answer(state: MessagesState) -> dict:
    said = state["messages"][-1].text
    if "ASK_CITY" in said:
        city = interrupt("Which city?")
        return {"messages": [("assistant", f"You chose {city}.")]}
    reply = await model.bind_tools([get_weather]).ainvoke(state["messages"])
    return {"messages": [reply]}


builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_node("tools", ToolNode([get_weather]))
builder.add_edge(START, "answer")
builder.add_conditional_edges("answer", tools_condition, ["tools", END])
builder.add_edge("tools", "answer")
agent = builder.compile()

careful = create_agent(
    model,
    [get_weather],
    middleware=[HumanInTheLoopMiddleware(interrupt_on={"get_weather": True})],
)
