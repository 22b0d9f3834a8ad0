"""What is put to an ACP agent: the prompt of a turn as content blocks.

Format: Agent Client Protocol, version 1, "Content". Text and links are understood by
every agent, pictures and embedded files by those whose capabilities say so.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from shared.backends.acp_updates import blocks
from shared.backends.acp_wire import as_object
from shared.backends.transcript import TurnFile, message_files, transcript
from shared.backends.workspaces import Workspace

AcpBlock = dict[str, Any]


async def prompt_blocks(
    messages: Sequence[Mapping[str, Any]],
    capabilities: Mapping[str, Any],
    workspace: Workspace | None,
) -> list[AcpBlock]:
    """The blocks for these messages: their text, then their files.

    `capabilities` are the agent's `promptCapabilities`. Files are put into the
    `workspace`, where the agent's tools find them; without one, as for an agent on
    another machine, they are embedded.
    """
    files = [file for message in messages for file in message_files(message)]
    attached: list[AcpBlock] = []
    for file in files:
        attached += await file_blocks(file, capabilities, workspace)
    text = transcript(messages)
    said = [{"type": "text", "text": text}] if text or not attached else []
    return [*said, *attached]


async def file_blocks(
    file: TurnFile, capabilities: Mapping[str, Any], workspace: Workspace | None
) -> list[AcpBlock]:
    """One file: seen at once where the agent can, and lying in the workspace."""
    data = await asyncio.to_thread(file.read)
    if data is None:
        return [{"type": "resource_link", "uri": file.url, "name": file.name}]
    found: list[AcpBlock] = []
    kind = file.mime_type.partition("/")[0]
    if kind in ("image", "audio") and capabilities.get(kind):
        shown = {"mimeType": file.mime_type, "data": file.encoded}
        found.append({"type": kind, **shown})
    if workspace is not None:
        path = await asyncio.to_thread(workspace.save, file.name, data)
        link = {"type": "resource_link", "uri": path.as_uri(), "name": path.name}
        found.append({**link, "mimeType": file.mime_type})
    elif not found and capabilities.get("embeddedContext"):
        found.append(embedded_file(file, data))
    if not found:
        found.append({"type": "text", "text": f"[{file.name} cannot be shown here]"})
    return found


def embedded_file(file: TurnFile, data: bytes) -> AcpBlock:
    """A file inside the prompt, as text where its bytes are text."""
    resource = {"uri": f"file:///{file.name}", "mimeType": file.mime_type}
    try:
        resource["text"] = data.decode()
    except UnicodeDecodeError:
        resource["blob"] = file.encoded
    return {"type": "resource", "resource": resource}


def selectable(session: Mapping[str, Any], category: str) -> dict[str, str]:
    """What a new session offers as `mode` or `model`: ids and names.

    Sessions list them as `modes` and `models`, or, since 2026, as config options.
    """
    option = config_option(session, category)
    if option is not None:
        entries, id_key = flat_options(option), "value"
    else:
        plural = f"{category}s"
        state = as_object(session.get(plural))
        entries = blocks(state.get(f"available{plural.title()}"))
        id_key = "id" if category == "mode" else "modelId"
    ids = [(str(entry.get(id_key) or ""), entry) for entry in entries]
    return {id_: str(entry.get("name") or id_) for id_, entry in ids if id_}


def config_option(
    session: Mapping[str, Any], category: str
) -> Mapping[str, Any] | None:
    """The session's config option of this category."""
    options = blocks(session.get("configOptions"))
    return next((o for o in options if o.get("category") == category), None)


def flat_options(option: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The values of a config option, which may stand in groups."""
    flat: list[Mapping[str, Any]] = []
    for entry in blocks(option.get("options")):
        flat += flat_options(entry) if "options" in entry else [entry]
    return flat


def selection(
    session: Mapping[str, Any], category: str, wanted: str
) -> tuple[str, dict[str, str]]:
    """The request that selects a mode or model: its method and parameters."""
    option = config_option(session, category)
    if option is not None:
        chosen = {"configId": str(option.get("id")), "value": wanted}
        return "session/set_config_option", chosen
    return f"session/set_{category}", {f"{category}Id": wanted}
