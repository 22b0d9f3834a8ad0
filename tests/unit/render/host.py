"""Open WebUI's own readers of a stream and of a stored answer, where installed."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from shared.events import AgentEvent
from shared.render.items import ChatRenderer, HostEvent

Item = dict[str, Any]


@pytest.fixture(scope="session")
def open_webui(tmp_path_factory: pytest.TempPathFactory) -> "OpenWebUI":
    """Importing reads the environment, which stays as it was for other tests."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WEBUI_SECRET_KEY", "not-a-secret")
        environment.setenv("DATA_DIR", str(tmp_path_factory.mktemp("data")))
        response = pytest.importorskip("open_webui.utils.response")
        misc = pytest.importorskip("open_webui.utils.misc")
    return OpenWebUI(
        response.handle_responses_streaming_event, misc.convert_output_to_messages
    )


class OpenWebUI:
    """What Open WebUI makes of a rendered turn."""

    def __init__(self, reduce: Any, replay: Any) -> None:
        self._reduce = reduce
        self.replay = replay

    def output(self, events: Iterable[HostEvent]) -> list[Item]:
        """The output items of the message that these events make."""
        items: list[Item] = []
        for event in events:
            if str(event.get("type", "")).startswith("response."):
                items, _ = self._reduce(event, items)
        return items


def sentence(code: str, fields: Mapping[str, Any]) -> str:
    return f"{code}: {dict(fields)}"


def render(*events: AgentEvent, used_call_ids: Iterable[str] = ()) -> list[HostEvent]:
    renderer = ChatRenderer("scout", sentence, set(used_call_ids))
    return [shown for event in events for shown in renderer.render(event)]


def kinds(items: Iterable[Item]) -> list[str]:
    return [item["type"] for item in items]


def item_text(item: Item) -> str:
    return "".join(part["text"] for part in item["content"])


def message_text(items: Iterable[Item]) -> str:
    return "".join(item_text(item) for item in items if item["type"] == "message")


def cards(items: Iterable[Item]) -> list[tuple[str, str, str | None]]:
    """Name, arguments and output of every tool card, None without an output."""
    items = list(items)
    outputs = {
        item["call_id"]: item["output"][0]["text"]
        for item in items
        if item["type"] == "function_call_output"
    }
    return [
        (item["name"], item["arguments"], outputs.get(item["call_id"]))
        for item in items
        if item["type"] == "function_call"
    ]


def left_to_run(items: Iterable[Item]) -> list[str]:
    """The tools that Open WebUI would run: calls without an output of their own.

    It runs them whatever their status, also after an error.
    """
    return [name for name, _, output in cards(items) if output is None]


def host_events(shown: Iterable[HostEvent], kind: str) -> list[Any]:
    """The data of all `{"event": …}` of this type."""
    events = [entry["event"] for entry in shown if "event" in entry]
    return [event["data"] for event in events if event["type"] == kind]


def shimmering(shown: Iterable[HostEvent]) -> bool:
    """Whether the last status line is still going on."""
    statuses = host_events(shown, "status")
    return bool(statuses) and not statuses[-1]["done"]
