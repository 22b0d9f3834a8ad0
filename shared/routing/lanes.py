"""Waiting requests in order: fair between users, first come first served for each.

A request gets a tag when it comes: the lane's virtual time, or one more than the last
tag of the same user, whichever is later (start-time fair queueing with equal costs:
Goyal, Vin, Cheng, SIGCOMM 1996). Served by tag, a user's tenth request waits behind
the first of another.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.routing.tickets import Rank

# Virtual times are compared only among those that wait; old users are forgotten.
FORGET_USERS_ABOVE = 1000


@dataclass(slots=True)
class FairTags:
    """The virtual time of a class, and the last tag of each user."""

    time: float = 0.0
    last: dict[str, float] = field(default_factory=dict)

    def new_tag(self, user: str) -> float:
        tag = max(self.time, self.last.get(user, self.time - 1) + 1)
        if len(self.last) > FORGET_USERS_ABOVE:
            self.last = {u: t for u, t in self.last.items() if t >= self.time}
        self.last[user] = tag
        return tag

    def serve(self, tag: float) -> None:
        self.time = max(self.time, tag)

    def refund(self, user: str) -> None:
        """A request of this user left without being served."""
        if user in self.last:
            self.last[user] -= 1


@dataclass(slots=True)
class Lane:
    """Ids in the order of (tag, number of arrival)."""

    _keys: list[tuple[float, int, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return (key[2] for key in self._keys)

    def add(self, rank: Rank, ticket_id: str) -> None:
        insort(self._keys, (*rank, ticket_id))

    def remove(self, rank: Rank, ticket_id: str) -> None:
        del self._keys[bisect_left(self._keys, (*rank, ticket_id))]

    def count_before(self, rank: Rank) -> int:
        return bisect_left(self._keys, (*rank, ""))
