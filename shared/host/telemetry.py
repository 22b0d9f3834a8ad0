"""OpenTelemetry metrics, where Open WebUI has them on."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

# The boundaries that OpenTelemetry's conventions name for the duration of HTTP requests,
# and longer ones: people wait minutes for an agent.
SECOND_BOUNDARIES = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 1000.0),
)


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is measured: `kind` is the end of a meter's method, `create_…`."""

    kind: str
    unit: str
    description: str


ROUTING_INSTRUMENTS: Mapping[str, Instrument] = {
    "aqueduct.routing.waiting": Instrument(
        "up_down_counter", "{request}", "Requests that wait for a place."
    ),
    "aqueduct.routing.wait": Instrument(
        "histogram", "s", "How long requests waited for a place."
    ),
    "aqueduct.routing.left": Instrument(
        "counter", "{request}", "Requests that left the queue without a place."
    ),
    "aqueduct.routing.fallbacks": Instrument(
        "counter", "{request}", "Requests that another pool or agent took over."
    ),
    "aqueduct.routing.running": Instrument(
        "up_down_counter", "{request}", "Requests that run on an upstream."
    ),
    "aqueduct.routing.attempts": Instrument(
        "counter", "{attempt}", "Attempts, by whether the chat stayed where it was."
    ),
    "aqueduct.routing.first_token": Instrument(
        "histogram", "s", "Time to the first token of an attempt."
    ),
    "aqueduct.routing.token_rate": Instrument(
        "histogram", "{token}/s", "Output tokens a second, after the first."
    ),
    "aqueduct.routing.errors": Instrument(
        "counter", "{attempt}", "Attempts that failed or were stopped, by error."
    ),
    "aqueduct.routing.retries": Instrument(
        "counter", "{attempt}", "Attempts after which the request was tried again."
    ),
    "aqueduct.routing.breaker": Instrument(
        "gauge", "1", "State of an upstream: 0 closed, 1 half open, 2 open."
    ),
}


class MeterRecorder:
    """Tells a meter what the routing counts."""

    def __init__(self, meter: Any) -> None:
        self._made = {
            name: make_instrument(meter, name, instrument)
            for name, instrument in ROUTING_INSTRUMENTS.items()
        }

    def add(self, name: str, amount: int, attributes: Mapping[str, str]) -> None:
        """Add to a counter."""
        self._made[name].add(amount, attributes)

    def record(self, name: str, value: float, attributes: Mapping[str, str]) -> None:
        """Count a value in a histogram, or set a gauge."""
        instrument = self._made[name]
        if ROUTING_INSTRUMENTS[name].kind == "gauge":
            instrument.set(value, attributes)
        else:
            instrument.record(value, attributes)


def make_instrument(meter: Any, name: str, instrument: Instrument) -> Any:
    make = getattr(meter, f"create_{instrument.kind}")
    given: dict[str, Any] = {
        "unit": instrument.unit,
        "description": instrument.description,
    }
    if instrument.unit == "s":
        given["explicit_bucket_boundaries_advisory"] = SECOND_BOUNDARIES
    return make(name, **given)


@lru_cache(maxsize=1)
def telemetry_recorder() -> MeterRecorder | None:
    """A recorder for Open WebUI's meter provider; None where its metrics are off."""
    from open_webui.env import ENABLE_OTEL, ENABLE_OTEL_METRICS

    if not (ENABLE_OTEL and ENABLE_OTEL_METRICS):
        return None
    from opentelemetry.metrics import get_meter

    return MeterRecorder(get_meter("aqueduct"))
