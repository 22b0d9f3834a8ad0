"""Search over Markdown files, section by section, ranked with BM25.

BM25 as in Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond" (2009), with the usual k1 = 1.5 and b = 0.75.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

K1 = 1.5
B = 0.75
COMMON_WORDS = (
    "a about an and any are as at be by can could do does for from give had has have "
    "how i if in into is it its me my of on or please show so some tell that the their "
    "them there these this to use used was we were what when where which who why will "
    "with would you your"
)
STOPWORDS = frozenset(COMMON_WORDS.split())


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a file. `anchor` is the heading's id as GitHub makes it."""

    path: str
    heading: str
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A section that was found, its score, and the part of it that fits best."""

    section: Section
    score: float
    snippet: str


class DocSearch:
    """An index over README.md and docs/*.md below `root`; files may be missing."""

    def __init__(self, root: Path) -> None:
        paths = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
        self.files = {
            path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
            for path in paths
            if path.is_file()
        }
        self._sections = [
            section
            for path, text in self.files.items()
            for section in split_sections(path, text)
        ]
        # A word of the heading says more about a section than one of its text.
        self._counts = [
            Counter(words(f"{s.heading} {s.heading} {s.text}")) for s in self._sections
        ]
        self._sizes = [sum(counts.values()) for counts in self._counts]
        self._found_in = Counter(word for counts in self._counts for word in counts)

    def search(self, query: str, limit: int = 3) -> list[Hit]:
        """The best sections for `query`, best first; none when no word is found."""
        wanted = set(words(query))
        scores = [self._score(wanted, index) for index in range(len(self._sections))]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        return [
            Hit(self._sections[i], scores[i], snippet(self._sections[i].text, wanted))
            for i in order[:limit]
            if scores[i] > 0
        ]

    def _score(self, wanted: set[str], index: int) -> float:
        counts, size = self._counts[index], self._sizes[index]
        mean = sum(self._sizes) / len(self._sizes)
        score = 0.0
        for word in wanted & counts.keys():
            rarity = len(self._sections) - self._found_in[word] + 0.5
            idf = math.log(1 + rarity / (self._found_in[word] + 0.5))
            often = counts[word]
            score += idf * often * (K1 + 1) / (often + K1 * (1 - B + B * size / mean))
        return score


def split_sections(path: str, text: str) -> list[Section]:
    """Cut a Markdown file at its headings; headings inside code fences are text."""
    sections: list[Section] = []
    heading, lines, fenced = Path(path).stem, list[str](), False
    for line in [*text.splitlines(), "# "]:
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if not line.startswith("#") or (fenced and line != "# "):
            lines.append(line)
            continue
        body = "\n".join(lines).strip()
        if body:
            sections.append(Section(path, heading, slug(heading), body))
        heading, lines = line.lstrip("#").strip(), []
    return sections


def words(text: str) -> list[str]:
    """Lower-case words without stop words; a plural counts as its singular."""
    found = re.findall(r"\w+", text.lower().replace("_", " "))
    kept = [word for word in found if word not in STOPWORDS]
    return [word[:-1] if len(word) > 3 and word[-1] == "s" else word for word in kept]


def snippet(text: str, wanted: set[str], limit: int = 320) -> str:
    """The paragraph with most of the wanted words, on one line, at most `limit` long."""
    prose = re.sub(r"(?s)```.*?```", "", text)
    prose = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", prose)
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", prose)]
    readable = [p for p in paragraphs if p and not p.startswith("|")] or [
        " ".join(text.replace("|", " ").split())
    ]
    best = max(readable, key=lambda part: len(wanted & set(words(part))))
    if len(best) <= limit:
        return best
    return best[:limit].rsplit(" ", 1)[0] + " …"


def slug(heading: str) -> str:
    """The id which GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.strip().replace(" ", "-")
