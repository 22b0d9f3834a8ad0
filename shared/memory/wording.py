"""How an exchange is written for the full-text index and for the embedding model."""

import time

from shared.memory.exchanges import Exchange
from shared.memory.terms import words

MONTH_NAMES = (
    "January February March April May June July August September October November "
    "December"
)


def day_of(seconds: int) -> str:
    """A date such as "8 May 2023", in UTC; empty where it is not known."""
    if seconds <= 0:
        return ""
    date = time.gmtime(seconds)
    month = MONTH_NAMES.split()[date.tm_mon - 1]
    return f"{date.tm_mday} {month} {date.tm_year}"


def index_texts(exchange: Exchange) -> tuple[str, str]:
    """Words of the question, with who asked and when, and words of the answer."""
    asked = f"{exchange.speaker} {exchange.question} {day_of(exchange.asked_at)}"
    return " ".join(words(asked)), " ".join(words(exchange.answer))


def embedding_texts(exchange: Exchange) -> tuple[str, str]:
    """The question, and question with answer: both with date and speaker.

    A vector of the memory is the mean of the two, so that its product with the
    query's vector is the mean of their cosines.
    """
    said = ": ".join(filter(None, (exchange.speaker, exchange.question)))
    question = "\n".join(filter(None, (day_of(exchange.asked_at), said)))
    return question, "\n".join(filter(None, (question, exchange.answer)))
