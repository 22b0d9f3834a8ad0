"""What an administrator sets: pools, queues, retries, breakers."""

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

# In the order in which they are served.
REQUEST_CLASSES = ("person", "background", "task")
UNLIMITED = 1_000_000


class ClassSeconds(BaseModel):
    """Seconds for each class of requests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    person: float = Field(default=300.0, gt=0)
    background: float = Field(default=900.0, gt=0)
    task: float = Field(default=60.0, gt=0)


class ClassCounts(BaseModel):
    """How many requests of each class may wait."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    person: int = Field(default=200, ge=0)
    background: int = Field(default=200, ge=0)
    task: int = Field(default=50, ge=0)


class QueueSettings(BaseModel):
    """Who waits how long. `per_user` and `per_model` limit what runs; 0 is no limit.

    `ageing`: a request of a lower class is served like one of the next higher class
    that came so many seconds later. By default a task comes to that before its
    deadline.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_waiting: ClassCounts = ClassCounts()
    deadline: ClassSeconds = ClassSeconds()
    per_user: int = Field(default=0, ge=0)
    per_model: int = Field(default=0, ge=0)
    ageing: float = Field(default=20.0, gt=0)
    notify_after: float = Field(default=1.2, ge=0)


class AffinitySettings(BaseModel):
    """How long a chat keeps its upstream after its last request there, in seconds.

    `wait`: how long a request waits for that upstream while others may be free.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttl: float = Field(default=600.0, ge=0)
    wait: float = Field(default=5.0, ge=0)


class RetrySettings(BaseModel):
    """Attempts in all, and the seconds that may pass before the last one begins.

    Before the same upstream is asked again, a random time is waited: up to `base`
    seconds, then up to twice as many, at most `cap`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempts: int = Field(default=3, ge=1, le=20)
    budget: float = Field(default=30.0, ge=0)
    base: float = Field(default=0.5, gt=0)
    cap: float = Field(default=8.0, gt=0)


class BreakerSettings(BaseModel):
    """When an upstream is left alone, and for how many seconds.

    After `failures` in a row, or when `error_rate` of at least `min_requests` of the
    last `window` seconds failed. `health`: ask the server itself before a request is
    risked on it again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    failures: int = Field(default=5, ge=1)
    error_rate: float = Field(default=0.5, gt=0, le=1)
    min_requests: int = Field(default=10, ge=1)
    window: float = Field(default=60.0, gt=0)
    open_for: float = Field(default=15.0, gt=0)
    health: bool = False


@dataclass(frozen=True, slots=True)
class UpstreamSlots:
    """One upstream as the queue sees it: how many requests it takes at once.

    `id` is its host, which may be shown; it holds no secret. `own_key`: all who use it
    show the same one.
    """

    id: str
    concurrency: int = 1
    weight: float = 1.0
    own_key: bool = False


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One pool: its upstreams and rules."""

    name: str
    upstreams: tuple[UpstreamSlots, ...]
    queue: QueueSettings = field(default_factory=QueueSettings)
    affinity: AffinitySettings = field(default_factory=AffinitySettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
