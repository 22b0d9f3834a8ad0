"""A model finds other models and talks to them, in chats that the user can open."""

from typing import Any

from pydantic import BaseModel, Field
from starlette.requests import Request

from shared.host.dialogs import Emit, EventCall
from shared.orchestration.answers_told import collect_answers
from shared.orchestration.caller import Caller, OrchestratorLimits
from shared.orchestration.chats_told import told_chats, told_messages
from shared.orchestration.conversations import ModelQuestion, ask_model
from shared.orchestration.given import given_count, given_flag, given_texts
from shared.orchestration.group_talk import hold_group_talk
from shared.orchestration.models_told import (
    told_carriers,
    told_graph,
    told_match,
    told_models,
    told_taxonomy,
)
from shared.orchestration.tag_changes import add_capability, add_relation, drop_tag
from shared.orchestration.tool_results import run_step, run_tool


class Tools:
    """Which models are there, what they can do, and conversations with them."""

    class Valves(BaseModel):
        MAX_DEPTH: int = Field(
            default=2,
            ge=1,
            le=5,
            description="How deep models may ask models that ask models.",
        )
        MAX_CHATS: int = Field(
            default=12, ge=1, description="Most new chats for one answer."
        )
        MAX_TURNS: int = Field(
            default=40, ge=1, description="Most turns with other models for one answer."
        )
        MAX_PARALLEL: int = Field(
            default=4, ge=1, description="Most chats that one answer runs at a time."
        )
        MAX_SECONDS: int = Field(
            default=900, ge=1, description="Seconds that one answer may take."
        )
        MAX_TOKENS: int = Field(
            default=200_000,
            ge=1,
            description="Tokens that other models may use for one answer; where a "
            "provider reports none, four characters count as one.",
        )
        MAX_CHARS: int = Field(
            default=8_000,
            ge=200,
            description="Longest answer, in characters, that is handed on whole.",
        )

    def __init__(self) -> None:
        self.valves = self.Valves()

    def _caller(
        self,
        request: Request,
        metadata: dict[str, Any],
        model: dict[str, Any],
        emit: Emit | None = None,
        event_call: EventCall | None = None,
    ) -> Caller:
        limits = orchestrator_limits(self.valves)
        return Caller(request, metadata, model, limits, emit, event_call)

    async def list_models(
        self,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        query: str | None = None,
        tag: str | None = None,
        page: int = 1,
    ) -> str:
        """
        List the models that can be asked, with their tags and capabilities.

        :param query: Words that the name, description or tags must contain.
        :param tag: Only models with this tag or capability.
        :param page: Which page of the list, from 1.
        """
        caller = self._caller(__request__, __metadata__, __model__)
        return await run_step(caller, told_models, query, tag, given_count(page, 1))

    async def get_models_by_tag(
        self,
        tag: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
    ) -> str:
        """
        Get the models that carry a tag or have a capability.

        :param tag: A tag as in cap:artist, or just the capability, as in artist.
        """
        caller = self._caller(__request__, __metadata__, __model__)
        return await run_step(caller, told_carriers, tag)

    async def find_model(
        self,
        name: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
    ) -> str:
        """
        Find a model by its id or name, also when it is only roughly known.

        :param name: The id or name, or a part of it.
        """
        caller = self._caller(__request__, __metadata__, __model__)
        return await run_step(caller, told_match, name)

    async def discover_relationships(
        self,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_emitter__: Emit,
        prefix: str = "rel:",
    ) -> str:
        """
        Get the graph of which models work with, review or know which others. The user
        sees it as a picture.

        :param prefix: How the tags of relations begin.
        """
        caller = self._caller(__request__, __metadata__, __model__, __event_emitter__)
        return await run_step(caller, told_graph, prefix)

    async def tag_taxonomy(
        self,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
    ) -> str:
        """
        Get all capabilities, relations and tags of the models, with how many have them.
        """
        caller = self._caller(__request__, __metadata__, __model__)
        return await run_step(caller, told_taxonomy)

    async def add_capability_tag(
        self,
        model: str,
        capability: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_call__: EventCall | None = None,
    ) -> str:
        """
        Note that a model has a capability. The user is asked to agree first.

        :param model: The id or name of the model.
        :param capability: One word or a few, as in artist or code-review.
        """
        caller = self._caller(
            __request__, __metadata__, __model__, None, __event_call__
        )
        return await run_tool(caller, add_capability, model, capability)

    async def add_relationship_tag(
        self,
        model: str,
        relation: str,
        target: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_call__: EventCall | None = None,
    ) -> str:
        """
        Note how a model is related to another one. The user is asked to agree first.

        :param model: The id or name of the model.
        :param relation: The relation, as in works-with or reviews.
        :param target: The id or name of the other model.
        """
        caller = self._caller(
            __request__, __metadata__, __model__, None, __event_call__
        )
        return await run_tool(caller, add_relation, model, relation, target)

    async def remove_tag(
        self,
        model: str,
        tag: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_call__: EventCall | None = None,
    ) -> str:
        """
        Remove a tag from a model. The user is asked to agree first.

        :param model: The id or name of the model.
        :param tag: The whole tag, as in cap:artist or rel:works-with:luna.
        """
        caller = self._caller(
            __request__, __metadata__, __model__, None, __event_call__
        )
        return await run_tool(caller, drop_tag, model, tag)

    async def find_chats(
        self,
        title: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
    ) -> str:
        """
        Find chats of this user by their title, the latest first.

        :param title: Words of the title; an empty text finds the latest chats.
        """
        caller = self._caller(__request__, __metadata__, __model__)
        return await run_step(caller, told_chats, title)

    async def read_chat(
        self,
        chat_id: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        last: int = 10,
    ) -> str:
        """
        Read the last messages of a chat of this user.

        :param chat_id: The id of the chat, as find_chats or chat_with_model gave it.
        :param last: How many messages, counted from the end.
        """
        caller = self._caller(__request__, __metadata__, __model__)
        return await run_step(caller, told_messages, chat_id, given_count(last, 10))

    async def chat_with_model(
        self,
        message: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_emitter__: Emit,
        model: str | None = None,
        tag: str | None = None,
        chat_id: str | None = None,
        title: str | None = None,
        background: bool = False,
    ) -> str:
        """
        Say something to another model and get its answer. It has its own tools and
        memory, but sees nothing of this chat: tell it all it needs. Give a model or a
        tag for a new chat, and the chat_id of an earlier result for the next turn in
        the same chat. To ask several models at once, call it for each with
        background=true, then collect.

        :param message: What to say to the model.
        :param model: The id or name of the model.
        :param tag: Instead of a model, a tag or capability: the model with this tag to
            which you are related, else the one with the fewest other capabilities.
        :param chat_id: The chat to go on in; without one, a new chat begins.
        :param title: The title of a new chat.
        :param background: Return at once, and get the answer with collect.
        """
        question = ModelQuestion(
            message, model, tag, chat_id, title, given_flag(background)
        )
        caller = self._caller(__request__, __metadata__, __model__, __event_emitter__)
        return await run_tool(caller, ask_model, question)

    async def collect(
        self,
        chat_ids: list[str],
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_emitter__: Emit,
    ) -> str:
        """
        Wait for the answers in chats that were begun with background=true.

        :param chat_ids: The ids of the chats.
        """
        caller = self._caller(__request__, __metadata__, __model__, __event_emitter__)
        return await run_tool(caller, collect_answers, given_texts(chat_ids))

    async def let_models_talk(
        self,
        models: list[str],
        topic: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_emitter__: Emit,
        turns: int = 4,
    ) -> str:
        """
        Let models talk to each other about a topic, in one chat, and get what they say.
        The first one opens, then they answer one another in turn.

        :param models: The ids or names of two or more models.
        :param topic: What they are to talk about, with all they need to know.
        :param turns: How many answers follow the opening.
        """
        caller = self._caller(__request__, __metadata__, __model__, __event_emitter__)
        return await run_tool(
            caller, hold_group_talk, given_texts(models), topic, given_count(turns, 4)
        )


def orchestrator_limits(valves: Tools.Valves) -> OrchestratorLimits:
    """The valves as limits."""
    return OrchestratorLimits(
        max_depth=valves.MAX_DEPTH,
        max_chats=valves.MAX_CHATS,
        max_turns=valves.MAX_TURNS,
        max_parallel=valves.MAX_PARALLEL,
        max_seconds=valves.MAX_SECONDS,
        max_tokens=valves.MAX_TOKENS,
        max_chars=valves.MAX_CHARS,
    )
