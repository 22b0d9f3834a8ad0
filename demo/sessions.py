"""Conversations that the Responses API keeps for its callers (`store: true`)."""

from collections import OrderedDict
from typing import Any

from demo.conversation import BadRequest


class Sessions:
    """The items of the last conversations, by the id of the response that ended each."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, list[Any]] = OrderedDict()

    def resume(self, body: dict[str, Any]) -> dict[str, Any]:
        """`body` with what came before its `previous_response_id` in its input.

        Raises `BadRequest` for a response that is not kept (any more).
        """
        previous = body.get("previous_response_id")
        if not previous:
            return body
        if previous not in self._kept:
            raise BadRequest(f"Previous response with id '{previous}' not found.")
        return {**body, "input": [*self._kept[previous], *input_list(body)]}

    def keep(self, body: dict[str, Any], document: dict[str, Any]) -> None:
        """Keep a whole conversation: its input and the response to it."""
        self._kept[document["id"]] = [*input_list(body), *document["output"]]
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)


def input_list(body: dict[str, Any]) -> list[Any]:
    """The input as items; the endpoint has checked that it is text or a list."""
    given = body.get("input") or []
    return [{"role": "user", "content": given}] if isinstance(given, str) else given
