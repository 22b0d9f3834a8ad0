"""What a turn is not to change in a stored chat."""

from collections.abc import Sequence
from typing import Any


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
