"""What programs say when a turn fails, as errors of ours."""

import contextlib
import re

import orjson

from shared.backends.payloads import error_detail

LOGIN_WORDS = re.compile(
    r"\b401\b|unauthori[sz]ed|invalid (api|x-api)[ -]key|api key (not|is not) valid"
    r"|authentication[ _](required|failed|error)|(not|please|must) log(ged)? ?in"
    r"|(token|session|login|credentials?) (has |have )?expired|/login\b",
    re.IGNORECASE,
)
JSON_OBJECT = re.compile(r"\{.*\}", re.DOTALL)
MAX_DETAIL = 300


def failure_code(detail: str) -> str:
    """The code of the sentence for this failure: a login's end has one of its own."""
    return "login_expired" if LOGIN_WORDS.search(detail) else "said_error"


def plain_detail(text: str) -> str:
    """The sentence in what a program said, on one line.

    Some hand on a whole JSON error object, between words of their own.
    """
    found = JSON_OBJECT.search(text)
    if found:
        with contextlib.suppress(orjson.JSONDecodeError):
            text = error_detail(orjson.loads(found.group())) or text
    text = " ".join(text.split()).removeprefix("Internal error: ")
    return text if len(text) <= MAX_DETAIL else text[: MAX_DETAIL - 1] + "…"
