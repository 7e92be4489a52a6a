"""`thousand data stats`: numbers by which any two data sets can be compared."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median, quantiles

import numpy as np
from markdown_it import MarkdownIt
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from assistant.base_model import Say
from assistant.embedding import embed
from assistant.errors import BadData
from assistant.jsonl import Problem
from train.data.corpus import Entry, files_of, read_corpus
from train.data.words import words_of

FORMS = ("prose", "numbered list", "bullets", "table", "code", "JSON", "short lines")
BINS = (0, 20, 40, 70, 110, 150, 190, 230, 270)
"""Lower edges of the length histogram, in words of an answer."""
WINDOW = 10_000
"""Words over which distinct n-grams are counted: their share falls with the length of a text, so it is fixed."""
BLOCK = 1024
FEWEST_WORDS_FOR_STYLE = 60

_MARKDOWN = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Set:
    """One data set, with what is computed of it once."""

    name: str
    entries: tuple[Entry, ...]
    vectors: NDArray[np.float32]
    """Embeddings of what the users ask, (lines, 384)."""
    answer_tokens: dict[str, int]
    """Tokens of the answers of each file."""

    @property
    def answers(self) -> list[str]:
        """All answers, in the order of the lines."""
        return [answer for entry in self.entries for answer in entry.answers]


def read_set(source: Path, name: str, count_tokens: Callable[[str], int], say: Say) -> Set:
    """The lines of one file or folder. Raises BadData when any line cannot be read."""
    problems: list[Problem] = []
    entries = read_corpus(files_of([source]), problems)
    if problems:
        raise BadData(problems)
    tokens: Counter[str] = Counter()
    for entry in entries:
        tokens[entry.file] += sum(map(count_tokens, entry.answers))
    return Set(name, tuple(entries), embed([entry.asked for entry in entries], say), dict(tokens))


def form_of(answer: str) -> str:
    """What an answer looks like: the first of FORMS, from the most to the least marked, that it has."""
    if answer[:1] in "[{" and answer[-1:] in "]}":
        return "JSON"
    kinds = {token.type for token in _MARKDOWN.parse(answer)}
    for kind, name in (("table_open", "table"), ("fence", "code"), ("ordered_list_open", "numbered list")):
        if kind in kinds:
            return name
    if "bullet_list_open" in kinds:
        return "bullets"
    lines = [line for line in answer.split("\n") if line.strip()]
    return "short lines" if len(lines) >= 3 and fmean(len(line.split()) for line in lines) < 12 else "prose"


def mean_similarity(vectors: NDArray[np.float32]) -> float:
    """The mean cosine of all pairs of unit vectors (n, d); lower means more different prompts."""
    n = len(vectors)
    return float((np.square(vectors.sum(axis=0)).sum() - n) / (n * (n - 1))) if n > 1 else float("nan")


def nearest(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """For each unit vector, (n, d), the cosine of its nearest other one, (n,); NaN for a single one."""
    found = np.full(len(vectors), np.nan, dtype=np.float32)
    for start in range(0, len(vectors) if len(vectors) > 1 else 0, BLOCK):
        cosines = vectors[start : start + BLOCK] @ vectors.T
        np.fill_diagonal(cosines[:, start:], -1)
        found[start : start + BLOCK] = cosines.max(axis=1)
    return found


def distinct(texts: Sequence[str], n: int) -> float:
    """The share of different n-grams among all n-grams (Li et al. 2016, arXiv 1510.03055), mean over windows of 10,000 words."""
    words = [word for text in texts for word in words_of(text)]
    windows = [words[i : i + WINDOW] for i in range(0, max(1, len(words) - WINDOW + 1), WINDOW)]
    shares = []
    for window in windows:
        grams = list(zip(*(window[i:] for i in range(n)), strict=False))
        shares.append(len(set(grams)) / max(1, len(grams)))
    return fmean(shares)


def style(answers: Sequence[str]) -> dict[str, tuple[float, float]]:
    """How answers are written: for each surface feature its mean and its standard deviation between answers.

    The more one voice, the smaller the deviations; what they are worth shows beside another set. Answers under
    60 words say too little of a manner and are left out. Empty when fewer than two are left.
    """
    long = [answer for answer in answers if len(answer.split()) >= FEWEST_WORDS_FOR_STYLE]
    if len(long) < 2:
        return {}
    rows = np.array([list(_features(answer).values()) for answer in long])
    names = _features(long[0])
    return {name: (float(rows[:, k].mean()), float(rows[:, k].std())) for k, name in enumerate(names)}


def _features(answer: str) -> dict[str, float]:
    words = answer.split()
    sentences = [part for part in re.split(r"(?<=[.!?])\s+|\n+", answer) if part.strip()]

    def in_100_words(pattern: str) -> float:
        return 100 * len(re.findall(pattern, answer)) / len(words)

    return {
        "words in a sentence": fmean(_lengths(sentences)),
        "letters in a word": fmean(len(re.sub(r"\W", "", word)) for word in words),
        "commas in 100 words": in_100_words(","),
        "brackets in 100 words": in_100_words(r"[()]"),
        "I, me, my in 100 words": in_100_words(r"\b(?:I|[Mm]e|[Mm]y)\b"),
    }


def _lengths(answers: Sequence[str]) -> list[int]:
    return [len(answer.split()) for answer in answers]


def files_table(sets: Sequence[Set]) -> Table:
    """One row a file: lines, user turns, answers, their words and tokens, lines with checks and with a system message."""
    table = Table(
        "file", "lines", "user turns", "topics", "prompt words", "answers", "words", "tokens", "under 40", "checks",
        "system", box=None,
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for data in sets:
        for file in dict.fromkeys(entry.file for entry in data.entries):
            inside = [entry for entry in data.entries if entry.file == file]
            lengths = _lengths([answer for entry in inside for answer in entry.answers])
            table.add_row(
                escape(file),
                str(len(inside)),
                str(sum(len(entry.prompts) for entry in inside)),
                str(len({entry.topic for entry in inside})),
                f"{fmean(len(entry.asked.split()) for entry in inside):.0f}",
                str(len(lengths)),
                f"{fmean(lengths):.0f}" if lengths else "",
                f"{data.answer_tokens[file]:,}" if lengths else "",
                f"{sum(words < 40 for words in lengths) / len(lengths):.0%}" if lengths else "",
                str(sum(entry.checks is not None for entry in inside)),
                str(sum(entry.system is not None for entry in inside)),
            )
    return table


def _numbers(data: Set) -> dict[str, str]:
    answers = data.answers
    lengths = _lengths(answers)
    cut = quantiles(lengths, n=10) if len(lengths) > 1 else []
    near = nearest(data.vectors)
    rows = {"lines": f"{len(data.entries):,}"}
    if len(data.entries) > 1:
        rows |= {
            "mean cosine of two prompts": f"{mean_similarity(data.vectors):.3f}",
            "mean cosine to the nearest prompt": f"{near.mean():.3f}",
            "prompts with one nearer than 0.6": f"{(near > 0.6).mean():.1%}",
        }
    if answers:
        rows |= {
            "answers": f"{len(answers):,}",
            "tokens in answers": f"{sum(data.answer_tokens.values()):,}",
            "words in an answer, median": f"{median(lengths):.0f}",
            "words in an answer, 10 to 90 %": f"{cut[0]:.0f} to {cut[-1]:.0f}" if cut else "",
            "answers under 40 words": f"{sum(words < 40 for words in lengths) / len(lengths):.1%}",
            **{f"distinct {n}-grams of answers": f"{distinct(answers, n):.3f}" for n in (1, 2, 3)},
            **{name: f"{mean:.2f} ± {spread:.2f}" for name, (mean, spread) in style(answers).items()},
        }
    return rows


def _side_by_side(title: str, columns: dict[str, dict[str, str]]) -> Table:
    table = Table(title, *map(escape, columns), box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in dict.fromkeys(name for cells in columns.values() for name in cells):
        table.add_row(row, *(escape(cells.get(row, "")) for cells in columns.values()))
    return table


def numbers_table(sets: Sequence[Set]) -> Table:
    """Diversity of prompts, length and style of answers, one column a set."""
    return _side_by_side("", {data.name: _numbers(data) for data in sets})


def _shares(names: Sequence[str], found: Sequence[str]) -> dict[str, str]:
    counts = Counter(found)
    return {name: f"{counts[name] / max(1, len(found)):.1%}" for name in names}


def forms_table(sets: Sequence[Set]) -> Table:
    """The share of answers of each form, one column a set."""
    return _side_by_side("form", {data.name: _shares(FORMS, [form_of(a) for a in data.answers]) for data in sets})


def bin_names() -> list[str]:
    """The names of the length bins."""
    inner = [f"{low} to {high - 1}" for low, high in pairwise(BINS)]
    return [*inner, f"{BINS[-1]} and more"]


def lengths_table(sets: Sequence[Set]) -> Table:
    """The share of answers of each length, one column a set."""
    names = bin_names()

    def name(words: int) -> str:
        return names[int(np.searchsorted(BINS, words, side="right")) - 1]

    return _side_by_side(
        "words", {data.name: _shares(names, [name(n) for n in _lengths(data.answers)]) for data in sets}
    )


def topics_table(sets: Sequence[Set], most: int = 20) -> Table:
    """The most frequent topics of each set with their counts."""
    columns = {}
    for data in sets:
        counts = Counter(entry.topic for entry in data.entries if entry.topic).most_common(most)
        columns[data.name] = {str(rank): f"{topic} {count}" for rank, (topic, count) in enumerate(counts, 1)}
    return _side_by_side("topics", columns)
