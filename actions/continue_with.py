"""Buttons that continue a conversation with another model."""

from collections.abc import Awaitable, Callable
from string import Formatter
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator
from starlette.requests import Request

from shared.orchestration.desk import ButtonSettings, Press
from shared.orchestration.faces import BUTTON_NAMES, button_face
from shared.orchestration.service import handle_press

Button = Literal["continue", "opinion", "compare", "talk", "new_chat"]
ALL_BUTTONS: tuple[Button, ...] = ("continue", "opinion", "compare", "talk", "new_chat")
OWN_LINE = "Empty: Aqueduct's own, in the user's language."


class Action:
    """Five buttons under an answer; each hands the conversation to other models."""

    class Valves(BaseModel):
        BUTTONS: list[Button] = Field(
            default=list(ALL_BUTTONS),
            description="The buttons that are offered.",
            json_schema_extra={
                "input": {
                    "type": "multiselect",
                    "options": [
                        {"value": button, "label": BUTTON_NAMES[button]}
                        for button in ALL_BUTTONS
                    ],
                }
            },
        )
        MODELS: str = Field(
            default="",
            description="Models to choose from: ids and tags, as in `gpt-5, tag:writing`. "
            "Empty: all that the user may use.",
        )
        MAX_COMPARED: int = Field(
            default=3, ge=2, le=6, description="Most models that Compare asks at once."
        )
        MAX_TURNS: int = Field(
            default=10, ge=2, le=100, description="Most turns of Let them talk."
        )
        MAX_SECONDS: int = Field(
            default=900,
            ge=1,
            description="Seconds that Let them talk, or a summary, may take altogether.",
        )
        SHOW_FIRST_ANSWER: bool = Field(
            default=False, description="Show the first answer to a second opinion."
        )
        HANDOVER_LINE: str = Field(
            default="",
            description="Line before what Continue with says; knows {previous} and "
            "{next}. " + OWN_LINE,
        )
        PLEASE_CONTINUE: str = Field(
            default="", description="What Continue with proposes to say. " + OWN_LINE
        )
        TALK_LINE: str = Field(
            default="",
            description="Line above each turn of Let them talk; knows {speaker}, "
            "{listener}, {number}, {turns}. " + OWN_LINE,
        )
        NEW_CHAT_LINE: str = Field(
            default="",
            description="Line in a new chat about where it comes from; knows {link} and "
            "{previous}. " + OWN_LINE,
        )
        SUMMARY_PROMPT: str = Field(
            default="", description="How a summary is asked for. " + OWN_LINE
        )
        priority: int = Field(
            default=0, description="Place among the buttons of other actions."
        )

        @field_validator(
            "HANDOVER_LINE",
            "PLEASE_CONTINUE",
            "TALK_LINE",
            "NEW_CHAT_LINE",
            "SUMMARY_PROMPT",
        )
        @classmethod
        def can_be_filled(cls, line: str) -> str:
            """Refuse a line with a brace too many, as it could never be written."""
            list(Formatter().parse(line))
            return line

        def model_post_init(self, context: Any, /) -> None:
            # Open WebUI asks for `actions` without handing over the valves, but reads
            # the priority from the stored ones just before (utils/models.py).
            Action.offered = tuple(self.BUTTONS)

    class UserValves(BaseModel):
        CONTINUE_MODEL: str = Field(
            default="",
            description="Id or name of the model that Continue with proposes.",
        )
        OPINION_MODEL: str = Field(
            default="",
            description="Id or name of the model that Second opinion proposes.",
        )
        COMPARE_MODELS: str = Field(
            default="",
            description="Ids or names of the models that Compare proposes: a, b, c.",
        )
        TALK_MODEL: str = Field(
            default="",
            description="Id or name of the model that Let them talk proposes.",
        )
        NEW_CHAT_MODEL: str = Field(
            default="",
            description="Id or name of the model that Continue in a new chat proposes.",
        )
        ASK_TEXT: bool = Field(
            default=True, description="Let me write what is said to the other model."
        )
        TALK_TURNS: int = Field(
            default=4, ge=2, description="Turns that Let them talk proposes."
        )

    # The buttons that the stored valves offer, see `Valves.model_post_init`.
    offered: tuple[str, ...] = ALL_BUTTONS

    def __init__(self) -> None:
        self.valves = self.Valves()

    @property
    def actions(self) -> list[dict[str, str]]:
        """The buttons, as Open WebUI puts them under each answer."""
        return [button_face(button) for button in ALL_BUTTONS if button in self.offered]

    async def action(
        self,
        body: dict[str, Any],
        __id__: str,
        __user__: dict[str, Any],
        __request__: Request,
        __event_emitter__: Callable[[dict[str, Any]], Awaitable[None]],
        __event_call__: Callable[[dict[str, Any]], Awaitable[Any]],
    ) -> None:
        """Take a press of one of the buttons; the work goes on in the background."""
        press = Press(
            button=__id__,
            request=__request__,
            user_id=str(__user__["id"]),
            chat_id=str(body.get("chat_id") or ""),
            message_id=str(body.get("id") or ""),
            session_id=str(body.get("session_id") or ""),
            model_id=str(body.get("model") or ""),
            messages=body.get("messages") or [],
            emit=__event_emitter__,
            event_call=__event_call__,
        )
        valves = self.valves
        own = __user__.get("valves") or self.UserValves()
        await handle_press(press, button_settings(valves, own))


def button_settings(valves: Action.Valves, own: Action.UserValves) -> ButtonSettings:
    """The valves of admin and user in one."""
    return ButtonSettings(
        buttons=tuple(valves.BUTTONS),
        offered=valves.MODELS,
        max_compared=valves.MAX_COMPARED,
        max_turns=valves.MAX_TURNS,
        max_seconds=valves.MAX_SECONDS,
        show_first_answer=valves.SHOW_FIRST_ANSWER,
        lines={
            "handover_line": valves.HANDOVER_LINE,
            "please_continue": valves.PLEASE_CONTINUE,
            "talk_line": valves.TALK_LINE,
            "new_chat_line": valves.NEW_CHAT_LINE,
            "summary_prompt": valves.SUMMARY_PROMPT,
        },
        default_models={
            "continue": [own.CONTINUE_MODEL],
            "opinion": [own.OPINION_MODEL],
            "compare": [part.strip() for part in own.COMPARE_MODELS.split(",")],
            "talk": [own.TALK_MODEL],
            "new_chat": [own.NEW_CHAT_MODEL],
        },
        ask_text=own.ASK_TEXT,
        talk_turns=own.TALK_TURNS,
    )
