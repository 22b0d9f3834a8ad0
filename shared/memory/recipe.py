"""Which stored exchanges answer a question, and whether any does.

Words and meaning are summed, each brought to 0..1 first. Words: BM25 (Robertson and
Zaragoza, 2009) with every term counted once, over the question and over the whole
exchange. Meaning: the cosine of the vectors. Then context, for what is short and was
said in passing: a word said just before or after counts in part, and a chat that holds
several good hits lifts all of its exchanges. docs/conversation-memory.md has the
figures that this recipe was chosen by.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.memory.base import Candidates, Floats, Numbers

BM25_K1 = 0.9
BM25_B = 0.6
# The gate's rarity of words: a memory of a few exchanges tells nothing of how rare a
# word is at all, only which of two is the rarer one, and that is enough for an order.
LEAST_COLLECTION = 500
QUESTION_SHARE = 0.75
# What words count beside meaning: most among short exchanges, less among long ones,
# of which many hold a word by chance.
LEXICAL_SHARE_SHORT = 0.52
LEXICAL_SHARE_LONG = 0.33
# What a word counts that stands one or two exchanges away in the same chat.
NEIGHBOUR_SHARES = (0.6, 0.4)
CHAT_SHARE = 0.4
CHAT_HITS = 3
# Up to this many words an exchange leans on its neighbours; a long one stands alone.
CONTEXT_WORDS = 60
# The gate: coverage and cosine together, or coverage alone where there is no vector.
GATE = 0.91
GATE_WORDS_ONLY = 0.47
# What a further note must reach, as a share of the gate and of the best hit: three
# notes of which one matters serve better than seven of which one does.
NOTE_SHARE = 0.8
BEST_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Ranking:
    """`scores` order the candidates; `strengths` say how sure a hit is, 1 = gate."""

    scores: Floats
    strengths: Floats

    def best(self, allowed: NDArray[np.bool_], limit: int) -> Numbers:
        """Positions of the best allowed candidates, best first."""
        order = np.argsort(-self.scores, kind="stable")
        return order[allowed[order]][:limit]

    def relevant(self, allowed: NDArray[np.bool_], limit: int) -> Numbers:
        """The best that pass the gate: none at all where none is sure enough."""
        best = self.best(allowed, limit)
        strengths = self.strengths[best]
        if not best.size or strengths.max() < 1:
            return best[:0]
        return best[strengths >= max(NOTE_SHARE, BEST_SHARE * strengths.max())]


def rank(found: Candidates, dense: Floats) -> Ranking:
    """Score every candidate; shapes are those of `found.ids`.

    `dense` is each one's cosine with the query, NaN where it has no vector.
    """
    if not found.ids.size:
        return Ranking(np.zeros(0, np.float32), np.zeros(0, np.float32))
    lengths = found.lengths.astype(np.float32)
    leaning = np.minimum(1, (CONTEXT_WORDS / np.maximum(lengths, 1)) ** 2)
    weights, covered = term_matrices(found)
    neighbours = Neighbours(found, leaning)
    count = len(found.ids)
    words_said = rarities(found, count) @ neighbours.lend(weights)
    rarity = rarities(found, max(count, LEAST_COLLECTION))
    coverage = rarity @ neighbours.lend(covered) / max(float(rarity.sum()), 1e-9)
    meaning = filled(dense)
    share = LEXICAL_SHARE_LONG + float(leaning.mean()) * (
        LEXICAL_SHARE_SHORT - LEXICAL_SHARE_LONG
    )
    scores = share * min_max(words_said) + (1 - share) * min_max(meaning)
    scores = scores + CHAT_SHARE * chat_lift(found.chats, scores, leaning)
    sure = np.where(
        np.isnan(dense),
        coverage / GATE_WORDS_ONLY,
        (coverage + np.nan_to_num(dense)) / GATE,
    )
    return Ranking(scores.astype(np.float32), sure.astype(np.float32))


def term_matrices(found: Candidates) -> tuple[Floats, Floats]:
    """For each term and candidate: its BM25 weight, and 1 where it stands at all."""
    shape = (len(found.matches), len(found.ids))
    weights, covered = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    question = QUESTION_SHARE * saturation(found.question_lengths)
    whole = (1 - QUESTION_SHARE) * saturation(found.lengths)
    for row, match in enumerate(found.matches):
        weights[row, match.in_question] += question[match.in_question]
        weights[row, match.anywhere] += whole[match.anywhere]
        covered[row, match.anywhere] = 1
    return weights, covered


def saturation(lengths: Numbers) -> Floats:
    """BM25's factor for a term that occurs once, by length of the text."""
    relative = lengths / max(float(lengths.mean()), 1.0)
    factor: Floats = (BM25_K1 + 1) / (
        1 + BM25_K1 * (1 - BM25_B + BM25_B * relative.astype(np.float32))
    )
    return factor


def rarities(found: Candidates, count: int) -> Floats:
    """BM25's inverse document frequency of each term, among `count` texts."""
    holding = np.array([len(match.anywhere) for match in found.matches], np.float32)
    rarity: Floats = np.log(1 + (count - holding + 0.5) / (holding + 0.5))
    return rarity


class Neighbours:
    """Who stands next to whom: exchanges of one chat in the order of time."""

    def __init__(self, found: Candidates, leaning: Floats) -> None:
        self._order = np.lexsort((found.ids, found.asked_at, found.chats))
        self._chats = found.chats[self._order]
        self._leaning = leaning[self._order]

    def lend(self, matrix: Floats) -> Floats:
        """Rows of terms, where a neighbour's term counts in part."""
        ordered = matrix[:, self._order]
        lent = ordered.copy()
        for distance, share in enumerate(NEIGHBOUR_SHARES, start=1):
            near = self._chats[distance:] == self._chats[:-distance]
            before = share * ordered[:, :-distance] * near
            after = share * ordered[:, distance:] * near
            later, earlier = lent[:, distance:], lent[:, :-distance]
            np.maximum(later, before * self._leaning[distance:], out=later)
            np.maximum(earlier, after * self._leaning[:-distance], out=earlier)
        result = np.empty_like(lent)
        result[:, self._order] = lent
        return result


def chat_lift(chats: Numbers, scores: Floats, leaning: Floats) -> Floats:
    """How much better than the average chat each candidate's chat is.

    A chat's worth is the mean of its best hits, where fewer hits count as zeros.
    """
    _, chat, sizes = np.unique(chats, return_inverse=True, return_counts=True)
    order = np.lexsort((-scores, chat))
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(order)) - np.repeat(starts, sizes)
    top = order[place < CHAT_HITS]
    worth = np.bincount(chat[top], scores[top], len(sizes)) / CHAT_HITS
    lean = np.bincount(chat, leaning, len(sizes)) / sizes
    lift: Floats = ((worth - worth.mean()) * lean)[chat].astype(np.float32)
    return lift


def filled(dense: Floats) -> Floats:
    """Cosines, where a candidate without a vector is taken for an average one."""
    missing = np.isnan(dense)
    if missing.all():
        return np.zeros_like(dense)
    return np.where(missing, np.nanmean(dense), dense).astype(np.float32)


def min_max(values: Floats) -> Floats:
    """Brought to 0..1; all zeros where they are equal."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros_like(values)
    scaled: Floats = (values - low) / (high - low)
    return scaled
