"""Of all that the rules leave a few: parts by temperature, then high scores, nothing twice, nothing held out, and far apart."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from assistant.base_model import Say
from assistant.dialogue import HELD_OUT
from assistant.embedding import embed
from assistant.settings import bundled
from train.data import near
from train.data.corpus import Entry, read_corpus

TEMPERATURE = 3.0
"""The paper's, over exchanges: a site with eight times as many questions is drawn twice as often."""
POOL = 4
"""For each example that a part is to give, this many of its highest-scoring candidates are looked at; then, where nearness
drops too many of them, twice as many."""


@dataclass(frozen=True)
class Candidate:
    """What the rules leave."""

    id: str
    part: str
    score: float
    about: str
    """What is compared with others for diversity: a title, or the first prompt."""
    said: tuple[str, ...]
    """Prompt and answer in turn."""


@dataclass(frozen=True)
class Part:
    """What quotas are drawn over: a site, or what a column of a table says."""

    name: str
    group: str
    """A number of examples is wanted of each group."""
    size: int
    best: Callable[[int], list[Candidate]]
    """So many of its candidates, the highest scores first."""


@dataclass
class Choice:
    """What was chosen, and why the others were not."""

    chosen: list[Candidate] = field(default_factory=list)
    reasons: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By id: the rule that left a looked-at candidate out, and what it found."""
    quotas: Counter[str] = field(default_factory=Counter)
    looked_at: int = 0


def draw_quotas(sizes: Mapping[str, int], n: int, seed: int) -> Counter[str]:
    """How many of `n` each part gives: parts are drawn with a chance that grows with size^(1/temperature).

    A part gives no more than it has; where all have too few together, each gives all.
    """
    names = sorted(sizes)
    random_ = random.Random(f"{seed} {names}")  # noqa: S311
    weights = np.array([sizes[name] for name in names]) ** (1 / TEMPERATURE)
    quotas: Counter[str] = Counter()
    for _ in range(min(n, sum(sizes.values()))):
        sums = weights.cumsum()
        drawn = int(np.searchsorted(sums, random_.random() * sums[-1], side="right"))
        quotas[names[drawn]] += 1
        if quotas[names[drawn]] == sizes[names[drawn]]:
            weights[drawn] = 0.0
    return quotas


def _entry(candidate: Candidate) -> Entry:
    return Entry(
        candidate.id, "curated", candidate.id, "", None, candidate.said[::2], candidate.said[1::2], None, True
    )  # fmt: skip


def _drop_near(candidates: Sequence[Candidate], choice: Choice, say: Say) -> list[Candidate]:
    """Those that are not like a better one and share nothing with a held-out set, by the audit's rules."""
    held_out = read_corpus(sorted(p for p in bundled("dialogues").glob("*.jsonl") if p.stem in HELD_OUT), [])
    choice.reasons.clear()
    # Of two that are alike the audit names the later one: the better ones come first.
    ordered = sorted(candidates, key=lambda candidate: (-candidate.score, candidate.id))
    for finding in near.near([_entry(candidate) for candidate in ordered], held_out, say):
        choice.reasons.setdefault(finding.where, (finding.rule, finding.what))
    return [candidate for candidate in ordered if candidate.id not in choice.reasons]


def _spread(candidates: Sequence[Candidate], quotas: Counter[str], n: int, say: Say) -> list[Candidate]:
    """`n` candidates far from one another: again and again the one whose nearest chosen neighbour is farthest.

    Begins with the highest score. Quotas hold as long as they can be met; then any part gives more.
    """
    if len(candidates) <= n:
        return list(candidates)
    vectors = embed([candidate.about for candidate in candidates], say)
    nearest = np.full(len(candidates), -1.0, dtype=np.float32)
    parts = sorted({candidate.part for candidate in candidates})
    part = np.array([parts.index(candidate.part) for candidate in candidates])
    left = np.array([quotas[name] for name in parts])
    free = np.ones(len(candidates), dtype=bool)
    while (~free).sum() < n:
        within = free & (left[part] > 0)
        pick = int(np.argmin(np.where(within if within.any() else free, nearest, np.inf)))
        free[pick] = False
        left[part[pick]] -= 1
        nearest = np.maximum(nearest, vectors @ vectors[pick])
    return [candidate for candidate, still_free in zip(candidates, free, strict=True) if not still_free]


def _short(
    parts: Sequence[Part],
    wanted: Mapping[str, int],
    quotas: Counter[str],
    looked: Mapping[str, int],
    rest: Sequence[Candidate],
) -> list[Part]:
    """The parts to look at more of, as too few are left: those under their quota, else any of a group that misses some."""
    left = Counter(candidate.part for candidate in rest)
    short = []
    for group, n in wanted.items():
        ours = [part for part in parts if part.group == group]
        more = [part for part in ours if looked[part.name] < part.size]
        under = [part for part in more if left[part.name] < quotas[part.name]]
        short += under or (more if sum(left[part.name] for part in ours) < n else [])
    return short


def choose(parts: Sequence[Part], wanted: Mapping[str, int], seed: int, say: Say) -> Choice:
    """Choose as many of each group as `wanted` says, or all there are."""
    choice = Choice()
    for group, n in wanted.items():
        choice.quotas += draw_quotas({part.name: part.size for part in parts if part.group == group}, n, seed)
    looked = {part.name: min(part.size, POOL * choice.quotas[part.name]) for part in parts}
    while True:
        pool = {part.name: part.best(looked[part.name]) for part in parts if looked[part.name]}
        rest = _drop_near([candidate for found in pool.values() for candidate in found], choice, say)
        short = _short(parts, wanted, choice.quotas, looked, rest)
        if not short:
            break
        say(f"{len(choice.reasons):,} candidates are too near to others; more are looked at")
        looked.update((part.name, min(part.size, max(POOL, 2 * looked[part.name]))) for part in short)
    choice.looked_at = sum(map(len, pool.values()))
    for group, n in wanted.items():
        names = {part.name for part in parts if part.group == group}
        choice.chosen += _spread([candidate for candidate in rest if candidate.part in names], choice.quotas, n, say)
    taken = {candidate.id for candidate in choice.chosen}
    for candidate in rest:
        if candidate.id not in taken:
            choice.reasons[candidate.id] = ("selection", "others are farther from those chosen already")
    return choice
