"""What has to end before Open WebUI does."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from shared.host.resources import shared_resource

SHUTDOWN_EVENT = "system.shutdown.started"

ShutdownHook = Callable[[], Awaitable[None]]


class ShutdownSink:
    """A receiver of Open WebUI's events, beside its own (`events.EVENT_SINKS`)."""

    def __init__(self, hooks: Mapping[str, ShutdownHook]) -> None:
        self._hooks = hooks

    async def handle_event(self, app: Any, event: Any, request: Any = None) -> None:
        """Open WebUI waits for this, unlike for event functions."""
        if event.event == SHUTDOWN_EVENT:
            for hook in list(self._hooks.values()):
                await hook()


def at_shutdown(name: str, hook: ShutdownHook) -> None:
    """Await `hook` when Open WebUI shuts down; it replaces an earlier one so named."""
    from open_webui.events import EVENT_SINKS

    hooks: dict[str, ShutdownHook] = shared_resource("shutdown hooks", dict)
    if not hooks:
        EVENT_SINKS.append(ShutdownSink(hooks))
    hooks[name] = hook
