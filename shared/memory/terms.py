"""Words of a text, as the full-text index holds them and as a query asks for them."""

import re
import unicodedata

MAX_QUERY_TERMS = 48

WORD_PATTERN = re.compile(r"[^\W_]+")
# Scripts that write words without spaces: Thai, Hiragana to Katakana, Bopomofo, CJK
# ideographs with extensions. Hangul has spaces, but glues endings to its words.
UNSPACED_RUN = re.compile(
    "[\u0e00-\u0eff\u3040-\u30ff\u3100-\u312f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003fffd]+"
)

# Words that say nothing about the subject of a question: function words, and how
# people ask about earlier talk. Of German, Spanish and French only those that are no
# words of English ("war", "son" and "sin" say a lot).
STOP_TEXT = """
    a about after again all also am an and any are aren as at be because been before
    being between both but by can could couldn d did didn discuss discussed do does
    doesn doing don down during each ever few for from further had hadn has hasn have
    haven having he her here hers him his how i if in into is isn it its itself just
    ll m many me mention mentioned more most much my myself no nor not now of off on
    once only or other our ours out over own please re s said same say says shall she
    should shouldn so some such t talk talked tell than that the their theirs them
    then there these they this those through to told too under until up us ve very was
    wasn we were weren what when where which while who whom whose why will with won
    would wouldn y you your yours
    aber auch auf aus das dass dem den der ein eine einem einen einer für habe ich ihr
    ist kann mein mir nach nicht noch oder sich sie und uns von warum wenn wer wie wir
    wird über
    como cual cuando cuál cuándo del donde dónde ella esta este las los muy pero por
    porque que quien qué quién sobre una yo
    avec ce cette des dans elle et il ils je le les leur mais mon nous où par pour
    quand que quel quelle qui sa ses sont tes une vous
    """


def fold(text: str) -> str:
    """Lower case without diacritics, so that "Café" and "cafe" are one word."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(char for char in apart if not unicodedata.combining(char))
    return unicodedata.normalize("NFC", bare)


def pairs(run: str) -> list[str]:
    """Overlapping pairs of characters, the words of a script without spaces."""
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]


def words(text: str) -> list[str]:
    """The words of a text in order, folded; unspaced scripts as pairs."""
    folded = fold(text)
    if folded.isascii():
        return WORD_PATTERN.findall(folded)
    spaced = UNSPACED_RUN.sub(lambda run: f" {' '.join(pairs(run[0]))} ", folded)
    return WORD_PATTERN.findall(spaced)


def query_terms(text: str) -> list[str]:
    """The words worth looking for, each once; at most MAX_QUERY_TERMS.

    Where a question holds nothing but stop words, those are asked for.
    """
    found = list(dict.fromkeys(words(text)))
    return ([w for w in found if w not in STOP_WORDS] or found)[:MAX_QUERY_TERMS]


STOP_WORDS = frozenset(words(STOP_TEXT))
