"""What a request to a model means for a talk: a turn of it, or its end."""

from collections.abc import Mapping
from typing import Any

from shared.host.saved_chats import is_saved_chat, stored_history
from shared.host.series import stop_series
from shared.orchestration.talk_view import TALK_KEY, TALK_KIND, as_heard
from shared.orchestration.tree import branch_to


async def meet_request(
    request: Any, metadata: Mapping[str, Any], messages: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The messages as the model that answers hears them.

    Only those of a talk change. A request that is not the talk's next turn ends the
    talk in its chat: somebody else has spoken.
    """
    chat_id = str(metadata.get("chat_id") or "")
    if not is_saved_chat(chat_id):
        return messages
    question = metadata.get("user_message") or {}
    talk = question.get(TALK_KEY)
    if talk is None:
        await stop_series(request, chat_id, TALK_KIND)
        return messages
    tree = (await stored_history(chat_id))["messages"]
    answer = tree[str(metadata["message_id"])]
    if tree[question["id"]]["childrenIds"] != [answer["id"]]:
        await stop_series(request, chat_id, TALK_KIND)
    branch = branch_to(tree, question["id"])
    return as_heard(answer["model"], talk.get("names") or {}, messages, branch)
