"""Of all that the rules leave a few: sites by temperature, then high scores, nothing twice, nothing held out, and far apart."""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from assistant.base_model import Say
from assistant.dialogue import HELD_OUT
from assistant.embedding import embed
from assistant.settings import bundled
from train.data import near
from train.data.corpus import Entry, read_corpus
from train.data.curate.judge import kept_texts
from train.data.curate.sites import GROUPS, Group, group
from train.data.curate.staging import database

TEMPERATURE = 3.0
"""The paper's, over exchanges: a site with eight times as many questions is drawn twice as often."""
POOL = 4
"""For each question that a site is to give, this many of its highest-scoring ones are looked at."""


@dataclass(frozen=True)
class Candidate:
    """A question that the rules leave."""

    site: str
    question: int
    score: int
    title: str
    prompt: str
    answer: str

    @property
    def id(self) -> str:
        return f"{self.site}-{self.question}"


@dataclass
class Choice:
    """What was chosen, and why the others were not."""

    chosen: list[Candidate] = field(default_factory=list)
    reasons: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By id: the rule that left a looked-at candidate out, and what it found."""
    quotas: Counter[str] = field(default_factory=Counter)
    looked_at: int = 0


def draw_quotas(sizes: Mapping[str, int], n: int, seed: int) -> Counter[str]:
    """How many of `n` each site gives: sites are drawn with a chance that grows with size^(1/temperature).

    A site gives no more than it has; where all have too few together, each gives all.
    """
    random_ = random.Random(f"{seed} {sorted(sizes)}")  # noqa: S311
    quotas: Counter[str] = Counter()
    for _ in range(min(n, sum(sizes.values()))):
        open_sites = [site for site in sorted(sizes) if quotas[site] < sizes[site]]
        weights = [sizes[site] ** (1 / TEMPERATURE) for site in open_sites]
        quotas[random_.choices(open_sites, weights)[0]] += 1
    return quotas


def _candidates(path: Path, site: str, most: int, seed: int) -> list[Candidate]:
    """The highest-scoring questions of a site that the rules leave; the prompt is title or description at random."""
    with database(path) as found:
        rows = found.execute(
            "SELECT question, score, packed FROM verdicts WHERE rule IS NULL ORDER BY score DESC, question LIMIT ?",
            (most,),
        ).fetchall()
    made = []
    for question, score, packed in rows:
        title, description, answer = kept_texts(packed)
        # Of the id and the seed alone, so that a candidate's prompt does not hang on which others there are.
        heads = hashlib.sha256(f"{seed} {site} {question}".encode()).digest()[0] % 2
        made.append(Candidate(site, question, score, title, description if description and heads else title, answer))
    return made


def _entry(candidate: Candidate) -> Entry:
    return Entry(
        f"{candidate.site}:{candidate.question}", "curated", candidate.id, "", None,
        (candidate.prompt,), (candidate.answer,), None, True,
    )  # fmt: skip


def _drop_near(candidates: list[Candidate], choice: Choice, say: Say) -> list[Candidate]:
    """Those that are not like a better one and share nothing with a held-out set, by the audit's rules."""
    held_out = read_corpus(sorted(p for p in bundled("dialogues").glob("*.jsonl") if p.stem in HELD_OUT), [])
    by_place = {_entry(candidate).where: candidate.id for candidate in candidates}
    # Of two that are alike the audit names the later one: the better ones come first.
    ordered = sorted(candidates, key=lambda candidate: (-candidate.score, candidate.id))
    for finding in near.near([_entry(candidate) for candidate in ordered], held_out, say):
        choice.reasons.setdefault(by_place[finding.where], (finding.rule, finding.what))
    return [candidate for candidate in ordered if candidate.id not in choice.reasons]


def _spread(candidates: Sequence[Candidate], quotas: Counter[str], n: int, say: Say) -> list[Candidate]:
    """`n` candidates far from one another: again and again the one whose nearest chosen neighbour is farthest.

    Begins with the highest score. Quotas hold as long as they can be met; then any site gives more.
    """
    if len(candidates) <= n:
        return list(candidates)
    vectors = embed([candidate.title for candidate in candidates], say)
    nearest = np.full(len(candidates), -1.0, dtype=np.float32)
    left, chosen = Counter(quotas), list[int]()
    while len(chosen) < min(n, len(candidates)):
        free = [i for i in range(len(candidates)) if i not in set(chosen)]
        within = [i for i in free if left[candidates[i].site] > 0] or free
        pick = min(within, key=lambda i: (nearest[i], i))
        chosen.append(pick)
        left[candidates[pick].site] -= 1
        nearest = np.maximum(nearest, vectors @ vectors[pick])
    return [candidates[i] for i in sorted(chosen)]


def survivors(path: Path) -> int:
    with database(path) as found:
        return int(found.execute("SELECT count(*) FROM verdicts WHERE rule IS NULL").fetchone()[0])


def choose(databases: Mapping[str, Path], wanted: Mapping[Group, int], seed: int, say: Say) -> Choice:
    """Choose as many of each group as `wanted` says, or all there are, from the databases by site."""
    choice = Choice()
    sizes: dict[Group, dict[str, int]] = defaultdict(dict)
    for site, path in databases.items():
        sizes[group(site)][site] = survivors(path)
    pool: list[Candidate] = []
    for name in GROUPS:
        quotas = draw_quotas(sizes[name], wanted[name], seed)
        choice.quotas += quotas
        for site in sorted(quotas):
            pool += _candidates(databases[site], site, POOL * quotas[site], seed)
    choice.looked_at = len(pool)
    rest = _drop_near(pool, choice, say)
    for name in GROUPS:
        ours = [candidate for candidate in rest if group(candidate.site) == name]
        choice.chosen += _spread(ours, choice.quotas, wanted[name], say)
    taken = {candidate.id for candidate in choice.chosen}
    for candidate in rest:
        if candidate.id not in taken:
            choice.reasons[candidate.id] = ("selection", "others of its site are farther from those chosen already")
    return choice
