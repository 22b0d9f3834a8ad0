"""Agents behind a webhook: n8n, Dify, Flowise, home-made services."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.agents.config import HttpAgent
from shared.backends.base import Backend
from shared.backends.http import new_http_client
from shared.backends.webhook import REQUEST_VALUES, StopRequest, WebhookBackend
from shared.backends.webhook_mapping import AnswerMapping
from shared.backends.webhook_paths import placeholders
from shared.backends.webhook_presets import WEBHOOK_PRESETS
from shared.host.resources import shared_resource


class StopSettings(BaseModel):
    """How an answer is stopped, where closing the connection is not enough."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suffix: str
    request: dict[str, Any] = Field(default_factory=dict)


class WebhookAgent(HttpAgent):
    """A service that answers a POST. `preset` gives what the entry does not say."""

    preset: Literal["", "n8n", "dify", "flowise"] = ""
    request: dict[str, Any] = Field(default_factory=dict)
    answer: AnswerMapping = AnswerMapping()
    format: Literal["", "json", "sse", "text"] = ""
    stop: StopSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, entry: Any) -> Any:
        """Keys of `request` and `answer` go over those of the preset, one by one."""
        preset = WEBHOOK_PRESETS.get(str(entry.get("preset") or ""), {})
        merged = dict(entry)
        for key, usual in preset.items():
            own = entry.get(key)
            if own is None:
                merged[key] = usual
            elif isinstance(own, dict) and key != "stop":
                merged[key] = {**usual, **own}
        return merged

    @model_validator(mode="after")
    def _can_be_asked(self) -> "WebhookAgent":
        if not self.request:
            raise ValueError("give a `request` to send, or a `preset`")
        if self.format != "text" and not self.answer.text:
            raise ValueError("say in `answer` where the `text` is, or give a `preset`")
        if "${" in str(self.request):
            raise ValueError("secrets are sent with `key` or `headers` alone")
        stop = self.stop or StopSettings(suffix="")
        used = placeholders([self.request, stop.suffix, stop.request])
        if unknown := sorted(used - set(REQUEST_VALUES)):
            names = ", ".join(f"{{{name}}}" for name in REQUEST_VALUES)
            raise ValueError(f"`{{{unknown[0]}}}` is none of {names}")
        return self


def make_webhook(agent: WebhookAgent, model: str) -> Backend:
    """The backend for the service; it has no models to choose among."""
    stop = agent.stop
    return WebhookBackend(
        client=shared_resource("http client", new_http_client),
        endpoint=agent.endpoint,
        request=agent.request,
        mapping=agent.answer,
        form=agent.format,
        stop=StopRequest(stop.suffix, stop.request) if stop else None,
    )
