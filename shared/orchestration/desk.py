"""What every button has at hand: who pressed it, where, and the words to answer."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.errors import AqueductError
from shared.host.dialogs import Emit, EventCall, ask_form, show_toast
from shared.host.people import recent_models, remember_models
from shared.host.turns import Answerer, NewTurn
from shared.host.usable_models import UsableModel, usable_models
from shared.orchestration.choice import in_picker_order, offered_models, picker_labels
from shared.orchestration.forms import FormField, form_schema
from shared.orchestration.lines import CHAT_LINES
from shared.orchestration.texts import BUTTON_TEXTS
from shared.texts import translate


@dataclass(frozen=True, slots=True)
class Press:
    """One press of a button, as Open WebUI reports it."""

    button: str
    request: Any
    user_id: str
    chat_id: str
    message_id: str
    session_id: str
    model_id: str
    messages: Sequence[Mapping[str, Any]]
    emit: Emit
    event_call: EventCall

    @property
    def in_temporary_chat(self) -> bool:
        """Whether only the browser knows this chat: `local:…`, never stored."""
        return ":" in self.chat_id


@dataclass(frozen=True, slots=True)
class ButtonSettings:
    """What an admin and the user have set.

    `lines` replaces lines by their code; `default_models` are ids or names by button.
    """

    buttons: Sequence[str] = ()
    offered: str = ""
    max_compared: int = 3
    max_turns: int = 10
    max_seconds: int = 600
    show_first_answer: bool = False
    lines: Mapping[str, str] = field(default_factory=dict)
    default_models: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ask_text: bool = True
    talk_turns: int = 4


@dataclass(frozen=True, slots=True)
class Desk:
    """One press being worked on."""

    press: Press
    settings: ButtonSettings
    person: Any
    language: str

    def text(self, code: str, **fields: Any) -> str:
        """A sentence of the interface, in the user's language."""
        return translate(BUTTON_TEXTS, code, self.language, fields)

    def line(self, code: str, **fields: Any) -> str:
        """A line that goes into a chat: the admin's own where there is one."""
        own = self.settings.lines.get(code)
        table = {code: {"en": own}} if own else CHAT_LINES
        return translate(table, code, self.language, fields)

    async def toast(self, kind: str, code: str, **fields: Any) -> None:
        await show_toast(self.press.emit, kind, self.text(code, **fields))

    async def names(self) -> dict[str, str]:
        """The name of every model this user may use, by id."""
        models = await usable_models(self.press.request, self.person)
        return {model.id: model.name for model in models.values()}

    async def picker(self, answered: Collection[str] = ()) -> "Picker":
        """The models to choose from; AqueductError where there is none.

        Models that have `answered` the question are proposed after the others.
        """
        usable = await usable_models(self.press.request, self.person)
        models = in_picker_order(
            offered_models(usable, self.settings.offered).values(),
            self.press.model_id,
            recent_models(self.person),
            answered,
        )
        if not models:
            raise AqueductError("no_models")
        wanted = self.settings.default_models.get(self.press.button) or ()
        preset = [
            model.id
            for named in wanted
            for model in models
            if named in (model.id, model.name)
        ]
        suggested = dict.fromkeys([*preset, *(model.id for model in models)])
        return Picker(models, picker_labels(models), list(suggested))

    async def ask(
        self, fields: Mapping[str, FormField], required: tuple[str, ...]
    ) -> dict[str, Any]:
        """The answers to this button's form, as the user gave them."""
        button = self.press.button
        return await ask_form(
            self.press.event_call,
            self.text(f"{button}_title"),
            self.text(f"{button}_message"),
            form_schema(fields, required),
        )

    def turn(
        self,
        user_message: Mapping[str, Any],
        answerers: Sequence[Answerer],
        *,
        stored: bool = False,
        system: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> NewTurn:
        """A turn in this chat, asked for from this tab."""
        return NewTurn(
            chat_id=self.press.chat_id,
            user_message=user_message,
            answerers=answerers,
            session_id=self.press.session_id,
            stored=stored,
            language=self.language,
            system=system,
            extra=extra or {},
        )

    async def may_go_on(self) -> bool:
        """Whether a talk may have one more turn: a person has agreed on their number."""
        return True

    async def remember(self, chosen: Sequence[str]) -> None:
        await remember_models(self.person, list(chosen))


@dataclass(frozen=True, slots=True)
class Picker:
    """Models to choose from; `suggested` are their ids, the likeliest first."""

    models: Sequence[UsableModel]
    labels: Mapping[str, str]
    suggested: Sequence[str]
