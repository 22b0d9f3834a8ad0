"""Turns that a model started for another one, as the database knows them.

Each such turn carries on its user message, in `meta`, for whom it was started, and in
which chat: a copy of the chat is a person's. So the limits and the guard against loops
hold on every worker of the server, and in an answer that goes on after a pause.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

ERRAND_KEY = "aqueduct_errand"
# A token of English is about four characters; where no usage is reported.
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Errand:
    """For whom a turn is started.

    `root` is the answer to a person's message at the top, `started` when it began, in
    seconds since 1970. `depth` is 1 for what that answer starts itself. `models` are
    those on the way down, the one that is asked last; `chats` are those in which
    somebody waits for the answer. `message_id` is the answer that asks, in the last one.
    """

    root: str
    started: int
    depth: int
    models: tuple[str, ...]
    chats: tuple[str, ...]
    message_id: str

    def as_meta(self, chat_id: str) -> dict[str, Any]:
        """What a user message in this chat carries."""
        lists = {"models": list(self.models), "chats": list(self.chats)}
        return {ERRAND_KEY: {**asdict(self), **lists, "chat_id": chat_id}}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any] | None, chat_id: str) -> "Errand | None":
        found = dict((meta or {}).get(ERRAND_KEY) or {})
        if not found or found.pop("chat_id", "") != chat_id:
            return None
        tuples = {"models": tuple(found["models"]), "chats": tuple(found["chats"])}
        return cls(**{**found, **tuples})


def without_errand(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message that is to stand in another chat."""
    meta = {k: v for k, v in (message.get("meta") or {}).items() if k != ERRAND_KEY}
    return {**message, "meta": meta} if "meta" in message else dict(message)


@dataclass(frozen=True, slots=True)
class Asked:
    """For whom an answer is written: `errand` is None for a person.

    `answer_id` is the answer itself, or the one above it that was asked for by a person
    or a model, where Open WebUI has woken the model since, with the result of a
    sub-agent or by a timer. `answered_at` is when that one was begun, `begun` when the
    answer itself was; in seconds since 1970, or 0.
    """

    errand: Errand | None
    answer_id: str
    answered_at: int
    begun: int


@dataclass(frozen=True, slots=True)
class ErrandTurn:
    """A turn that was started for a root; `task_id` is empty once it has ended.

    `chats` are those above it, as in its errand.
    """

    chat_id: str
    chats: tuple[str, ...]
    asked_by: str
    tokens: int
    task_id: str


async def asked_for(chat_id: str, answer_id: str) -> Asked:
    """For whom an answer is written, and since when."""
    from open_webui.models.chats import Chats

    messages = await Chats.get_messages_map_by_chat_id(chat_id) or {}
    first_id, question = first_asked(messages, answer_id)
    times = [
        int((messages.get(each) or {}).get("timestamp") or 0)
        for each in (first_id, answer_id)
    ]
    errand = Errand.from_meta(question.get("meta"), chat_id)
    return Asked(errand, first_id, *times)


def first_asked(
    messages: Mapping[str, Mapping[str, Any]], answer_id: str
) -> tuple[str, Mapping[str, Any]]:
    """The answer and its question, above all questions that Open WebUI itself put.

    Such a question stands below the answer that set the timer, or sent a sub-agent.
    """
    seen: set[str] = set()
    while answer_id not in seen:
        seen.add(answer_id)
        answer = messages.get(answer_id) or {}
        question = messages.get(str(answer.get("parentId") or "")) or {}
        above = str(question.get("parentId") or "")
        if not (question.get("meta") or {}).get("internal") or above not in messages:
            break
        answer_id = above
    return answer_id, question


async def errand_turns(request: Any, user_id: str, errand: Errand) -> list[ErrandTurn]:
    """All turns that were started for the errand's root so far."""
    from open_webui.internal.db import get_async_db
    from open_webui.models.chat_messages import ChatMessage
    from sqlalchemy import and_, select
    from sqlalchemy.orm import aliased

    asked, answered = aliased(ChatMessage), aliased(ChatMessage)
    query = (
        select(asked, answered)
        .outerjoin(
            answered,
            and_(
                answered.chat_id == asked.chat_id,
                # The key of a row is made of both ids; a parent is the plain id.
                asked.id == answered.chat_id + "-" + answered.parent_id,
            ),
        )
        .where(
            asked.user_id == user_id,
            asked.created_at >= errand.started,
            asked.meta[(ERRAND_KEY, "root")].as_string() == errand.root,
            # A copy of a chat is nothing that was asked.
            asked.meta[(ERRAND_KEY, "chat_id")].as_string() == asked.chat_id,
        )
    )
    async with get_async_db() as session:
        rows = (await session.execute(query)).all()
    return [await errand_turn(request, question, answer) for question, answer in rows]


async def errand_turn(request: Any, question: Any, answer: Any) -> ErrandTurn:
    running = answer is not None and await is_running(
        request, question.chat_id, {"done": answer.done, "meta": answer.meta}
    )
    return ErrandTurn(
        chat_id=question.chat_id,
        chats=tuple(question.meta[ERRAND_KEY]["chats"]),
        asked_by=question.meta[ERRAND_KEY]["message_id"],
        tokens=used_tokens(question, answer),
        task_id=str(answer.meta["task_id"]) if running else "",
    )


def used_tokens(question: Any, answer: Any) -> int:
    """What a turn cost: as reported, or guessed from the lengths of both messages."""
    usage = (answer.usage if answer is not None else None) or {}
    if reported := reported_tokens(usage):
        return reported
    texts = [question.content, answer.content if answer is not None else ""]
    return sum(len(str(text or "")) for text in texts) // CHARACTERS_PER_TOKEN


def reported_tokens(usage: Mapping[str, Any]) -> int:
    """The tokens in a `usage`, by the names of chat completions or of responses."""
    if total := usage.get("total_tokens"):
        return int(total)
    names = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
    return sum(int(usage.get(name) or 0) for name in names)


async def is_running(request: Any, chat_id: str, message: Mapping[str, Any]) -> bool:
    """Whether an answer is being written now, on whichever worker.

    An answer that a server's end cut off is not done either.
    """
    from open_webui.tasks import list_task_ids_by_item_id

    task_id = (message.get("meta") or {}).get("task_id")
    if message.get("done") is not False or not task_id:
        return False
    return task_id in await list_task_ids_by_item_id(request.app.state.redis, chat_id)


def answering_task(metadata: Mapping[str, Any]) -> Any:
    """The task in which the model that called a tool is answering."""
    import asyncio

    from open_webui.tasks import tasks

    return tasks.get(str(metadata.get("task_id"))) or asyncio.current_task()


async def stop_everywhere(request: Any, task_ids: Sequence[str]) -> None:
    """Stop tasks on whichever worker they run, if they are not being stopped here.

    A second stop would hit Open WebUI while it saves an answer.
    """
    from open_webui.tasks import stop_task, tasks

    for task_id in task_ids:
        task = tasks.get(task_id)
        if task is not None and (task.done() or task.cancelling()):
            continue
        await stop_task(request.app.state.redis, task_id)
