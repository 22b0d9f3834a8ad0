"""LiteLLM's Router under the load of routing_fleet; runs in LiteLLM's own environment.

    python -m benchmarks.routing_litellm SCENARIO

SCENARIO is a Scenario as JSON; prints JSON {way: Outcome}. The
Router has no queue: it chooses an upstream at once, and requests wait there, first come
first served, as at a llama.cpp or vLLM server with so many slots.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import Any

from benchmarks.routing_load import Question, Scenario, Stage, simulate

# Prices from the package, not from the net.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # type: ignore[import-not-found]
from litellm import CustomLLM, ModelResponse, Router

WAYS: dict[str, dict[str, Any]] = {
    "LiteLLM least-busy": {"routing_strategy": "least-busy"},
    "LiteLLM session affinity": {
        "routing_strategy": "least-busy",
        "optional_pre_call_checks": ["session_affinity"],
    },
}


class AtOnce(ThreadPoolExecutor):
    """Waits for its threads: else simulated time would pass while they work."""

    def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The work's future, which is done."""
        future = super().submit(work, *args, **kwargs)
        wait([future])
        return future


class SimulatedUpstreams(CustomLLM):
    """Servers that answer after as many simulated seconds as a question says."""

    def __init__(self) -> None:
        super().__init__()
        self.stage: Stage | None = None
        self.slots: dict[str, asyncio.Semaphore] = {}
        self.questions: dict[str, tuple[Question, float]] = {}

    async def acompletion(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Wait for a slot of the server that the Router chose."""
        upstream = kwargs["model"].rpartition("/")[2]
        # Built-in providers say so themselves; the least-busy strategy counts by it.
        kwargs["logging_obj"].pre_call(input=kwargs["messages"], api_key="")
        question, asked = self.questions.pop(kwargs["messages"][-1]["content"])
        assert self.stage is not None
        slot = self.slots.setdefault(upstream, asyncio.Semaphore(self.stage.slots))
        async with slot:
            await self.stage.answer(question, asked, upstream)
        return litellm.mock_completion(kwargs["model"], [], mock_response="Yes.")


class LiteLLMFleet:
    """Asks through a Router with one deployment an upstream."""

    def __init__(self, scenario: Scenario, **settings: Any) -> None:
        self._upstreams = SimulatedUpstreams()
        litellm.custom_provider_map = [
            {"provider": "simulated", "custom_handler": self._upstreams}
        ]
        litellm.callbacks = []
        deployments = [
            {
                "model_name": "model",
                "litellm_params": {"model": f"simulated/gpu{number}"},
            }
            for number in range(scenario.upstreams)
        ]
        self._router = Router(
            model_list=deployments, num_retries=0, timeout=1e6, **settings
        )
        self._at_once = AtOnce()
        self._number = 0

    async def ask(self, stage: Stage, question: Question) -> None:
        """Send a question through the Router; its chat is the session."""
        self._upstreams.stage = stage
        self._number += 1
        text = str(self._number)
        loop = asyncio.get_running_loop()
        loop.set_default_executor(self._at_once)
        asked = loop.time()
        self._upstreams.questions[text] = (question, asked)
        await self._router.acompletion(
            model="model",
            messages=[{"role": "user", "content": text}],
            metadata={"session_id": question.chat},
        )


def main(scenario: Scenario) -> dict[str, dict[str, Any]]:
    """The outcome of each way, with the first seed."""
    return {
        way: asdict(simulate(LiteLLMFleet(scenario, **settings), scenario, 0))
        for way, settings in WAYS.items()
    }


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print(json.dumps(main(Scenario(**json.loads(sys.argv[1])))))
