"""The request for an answer, as Open WebUI's own page would send it."""

from collections.abc import Mapping
from typing import Any

from shared.host.people import person_settings
from shared.host.usable_models import UsableModel

# Kinds of attachments that travel beside the messages; pictures travel in them.
DOCUMENT_KINDS = ("doc", "text", "note", "chat", "collection", "folder")


async def completion_form(
    person: Any,
    chat: Mapping[str, Any],
    user_message: Mapping[str, Any],
    model: UsableModel,
    language: str,
    more_system: str = "",
) -> dict[str, Any]:
    """What one model needs to answer `user_message` of a stored chat.

    The model's own tools, filters and features, the parameters and system prompt of
    the chat (or the user's), the files of the chat and of the message. `chat` is the
    stored chat's JSON, `more_system` is added to its system prompt. Open WebUI reads
    the messages themselves from its database.
    """
    settings = person_settings(person)
    params = {
        **(settings.get("params") or {}),
        **{k: v for k, v in (chat.get("params") or {}).items() if v is not None},
    }
    own_system = params.get("system") or settings.get("system")
    system = "\n\n".join(part for part in (own_system, more_system) if part)
    features = await default_features(model, settings)
    form: dict[str, Any] = {
        "model": model.id,
        "stream": params.get("stream_response", True),
        "params": params,
        "messages": [{"role": "system", "content": system}] if system else [],
        "files": turn_files(chat, user_message) or None,
        "tool_ids": list(model.meta.get("toolIds") or settings.get("tools") or []),
        "skill_ids": model.meta.get("skillIds") or None,
        "filter_ids": list(model.meta.get("defaultFilterIds") or []),
        "terminal_id": model.meta.get("terminalId") or None,
        "features": features,
        "variables": {
            "{{USER_NAME}}": person.name,
            "{{USER_EMAIL}}": person.email,
            "{{USER_LANGUAGE}}": language,
        },
        "background_tasks": {
            "follow_up_generation": settings.get("autoFollowUps", True)
        },
    }
    return {key: value for key, value in form.items() if value is not None}


async def default_features(
    model: UsableModel, settings: Mapping[str, Any]
) -> dict[str, bool]:
    """Features that are on for this model without being asked for in the chat."""
    from open_webui.models.config import Config

    switches = {
        "web_search": "web.search.enable",
        "image_generation": "image_generation.enable",
        "code_interpreter": "code_interpreter.enable",
    }
    able = model.meta.get("capabilities") or {}
    features = {
        feature: True
        for feature in model.meta.get("defaultFeatureIds") or []
        if able.get(feature)
        and feature in switches
        and await Config.get(switches[feature])
    }
    memory = settings.get("memory")
    if memory is None:
        defaults = await Config.get("ui.default_interface_settings") or {}
        memory = defaults.get("memory")
    if memory:
        features["memory"] = True
    return features


def turn_files(
    chat: Mapping[str, Any], user_message: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The documents of the chat and of the message, each once."""
    files = list(chat.get("files") or [])
    for file in user_message.get("files") or []:
        is_picture = str(file.get("content_type") or "").startswith("image/")
        kind = file.get("type")
        if kind in DOCUMENT_KINDS or (kind == "file" and not is_picture):
            files.append(file)
    return [file for i, file in enumerate(files) if file not in files[:i]]
