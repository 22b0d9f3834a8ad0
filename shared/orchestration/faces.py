"""How the buttons look: names and icons."""

from urllib.parse import quote

# 24 x 24, strokes only: Open WebUI inverts SVG icons where the screen is dark.
ICON_FRAME = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" '
    'stroke="#666" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round">'
    '<path d="{path}"/></svg>'
)
ICON_PATHS = {
    "continue": "M4 6h10M4 12h7M4 18h7M15 12l5 3-5 3z",
    "opinion": "M3 4h10v8H8l-3 3v-3H3zM16 9h5v8h-2v3l-3-3h-5v-2",
    "compare": "M4 4h4v16H4zM10 4h4v16h-4zM16 4h4v16h-4z",
    "talk": "M4 8h14M15 5l3 3-3 3M20 16H6M9 13l-3 3 3 3",
    "new_chat": "M12 5H5v14h14v-7M14 4h6v6M20 4l-9 9",
}
BUTTON_NAMES = {
    "continue": "Continue with…",
    "opinion": "Second opinion",
    "compare": "Compare",
    "talk": "Let them talk",
    "new_chat": "Continue in a new chat",
}


def button_face(button: str) -> dict[str, str]:
    """One entry of an action's `actions`, as Open WebUI reads it."""
    svg = ICON_FRAME.format(path=ICON_PATHS[button])
    return {
        "id": button,
        "name": BUTTON_NAMES[button],
        "icon_url": f"data:image/svg+xml,{quote(svg)}",
    }
