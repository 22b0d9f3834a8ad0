"""What a turn is not to change in a stored chat, or not to take from it."""

from collections.abc import Mapping, Sequence
from typing import Any

# Whom a chat is shared with does not see these (routers/chats.py).
OWNERS_FIELDS = ("params", "tool_servers", "tool_ids", "filter_ids", "variables")


def chat_seen_by(person: Any, chat: Any) -> dict[str, Any]:
    """The JSON of a stored chat, without what is its owner's alone."""
    hidden = () if chat.user_id == person.id else OWNERS_FIELDS
    return {key: value for key, value in chat.chat.items() if key not in hidden}


def message_seen_by(
    person: Any, chat: Any, message: Mapping[str, Any]
) -> dict[str, Any]:
    """A message of a stored chat, without what Open WebUI notes of it for its author."""
    is_own = (message.get("user_id") or chat.user_id) == person.id
    return {key: value for key, value in message.items() if is_own or key != "meta"}


async def keep_selected_models(chat: Any) -> None:
    """Give the chat back its selected models, as they were when `chat` was read.

    The completion handler takes the models that answer for the user's selection.
    """
    from open_webui.models.chats import Chats

    if "models" in chat.chat:
        kept = {"models": chat.chat["models"]}
        await Chats.update_chat_by_id(chat.id, kept, touch=False)


async def restore_columns(
    chat_id: str, question_id: str, models: Sequence[str]
) -> None:
    """Give a question back its models, one for each column of answers."""
    from open_webui.models.chats import Chats

    question = await Chats.get_message_by_id_and_message_id(chat_id, question_id)
    # Open WebUI would make a question anew that was deleted meanwhile.
    if question and list(question.get("models") or []) != list(models):
        await Chats.upsert_message_to_chat_by_id_and_message_id(
            chat_id, question_id, {"models": list(models)}
        )


async def show_instead(chat_id: str, shown_id: str, message_id: str) -> None:
    """Let the chat end with another message, if it is shown up to `shown_id` now."""
    from open_webui.models.chats import Chats

    async with Chats._chat_transaction(chat_id) as (_, chat):
        stored = dict(chat.chat or {}) if chat else {}
        history = dict(stored.get("history") or {})
        if history.get("currentId") != shown_id:
            return
        if message_id in history["messages"]:
            history["currentId"] = message_id
            chat.chat = {**stored, "history": history}
            chat.current_message_id = message_id
