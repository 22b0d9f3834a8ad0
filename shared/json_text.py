"""JSON for requests and events."""

import json
from typing import Any

import orjson


def dump_json(value: Any) -> bytes:
    """JSON as UTF-8; raises TypeError for what JSON cannot hold.

    Half a character (a lone surrogate, as in undecodable file names) becomes a
    question mark, since it would end a whole turn otherwise.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
