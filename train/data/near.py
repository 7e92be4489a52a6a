"""Lines that are too near to one another, and training lines that give away what is held out."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from datasketch import MinHash, MinHashLSH

from train.data.corpus import Entry
from train.data.embedding import embed
from train.data.finding import Finding, Rule

RULES = (
    Rule("duplicate-prompt", "error", "prompts with the same words"),
    Rule("duplicate-answer", "error", "answers with the same words"),
    Rule("near-duplicate-prompt", "error", "prompts that share half of their three-word shingles (MinHash)"),
    Rule("near-duplicate-answer", "error", "answers that share half of their three-word shingles (MinHash)"),
    Rule("similar-prompt", "error", "prompts that mean nearly the same (sentence embeddings)"),
    Rule("contamination", "error", "eight words in a row that a held-out line has too"),
)

SHINGLE = 3
JACCARD = 0.5
COSINE = 0.8
"""In the set that comes along the nearest two prompts are at 0.75, and they ask different things."""
GRAM = 8
PERMUTATIONS = 64


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in small letters, without punctuation."""
    return tuple(re.findall(r"\w+", text.lower()))


def _runs(words: Sequence[str], n: int) -> set[str]:
    """All runs of `n` words; the whole text where it has fewer."""
    return {" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}


def _near(texts: Sequence[str]) -> Iterator[tuple[int, int, float]]:
    """Pairs (earlier, later, Jaccard similarity of shingles) at or above JACCARD; equal texts have 1.

    Candidates come from locality-sensitive hashing of MinHash signatures (Broder 1997), so that the time grows with the
    number of texts and not with its square; each candidate is then compared exactly.
    """
    shingles = [_runs(words_of(text), SHINGLE) for text in texts]
    signatures = MinHash.bulk([[item.encode() for item in sorted(items)] for items in shingles], num_perm=PERMUTATIONS)
    index = MinHashLSH(threshold=JACCARD * 0.8, num_perm=PERMUTATIONS)
    for later, signature in enumerate(signatures):
        for earlier in sorted(index.query(signature)):
            both = len(shingles[earlier] & shingles[later])
            jaccard = both / len(shingles[earlier] | shingles[later])
            if jaccard >= JACCARD:
                yield earlier, later, jaccard
        index.insert(later, signature)


def _repeated(entries: Sequence[Entry], texts: Sequence[str], owner: Sequence[int], noun: str) -> Iterator[Finding]:
    for earlier, later, jaccard in _near(texts):
        first, second = entries[owner[earlier]], entries[owner[later]]
        if first is second:
            continue
        exact = words_of(texts[earlier]) == words_of(texts[later])
        rule = f"duplicate-{noun}" if exact else f"near-duplicate-{noun}"
        yield Finding(second.where, rule, f"that of {first.where}" + ("" if exact else f", by {jaccard:.0%}"))


def _similar(entries: Sequence[Entry]) -> Iterator[Finding]:
    vectors = embed([entry.asked for entry in entries])
    for later in range(1, len(entries)):
        cosines = vectors[:later] @ vectors[later]
        for earlier in np.flatnonzero(cosines >= COSINE).tolist():
            yield Finding(
                entries[later].where,
                "similar-prompt",
                f"to that of {entries[earlier].where}, by {cosines[earlier]:.2f}",
            )


def _contaminated(entries: Sequence[Entry]) -> Iterator[Finding]:
    held_out: dict[str, Entry] = {}
    for entry in entries:
        if entry.held_out:
            for text in entry.prompts + entry.answers:
                held_out.update((gram, entry) for gram in _runs(words_of(text), GRAM))
    for entry in entries:
        if entry.held_out:
            continue
        shared: dict[str, list[str]] = defaultdict(list)
        for text in entry.texts:
            # A run is as long as the text where that is shorter, so that a short prompt taken whole is found too.
            for gram in sorted(_runs(words_of(text), GRAM) & held_out.keys()):
                shared[held_out[gram].where].append(gram)
        for where, grams in shared.items():
            yield Finding(entry.where, "contamination", f"has {grams[0]!r} in common with {where}")


def near(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Findings of every rule of this module, each at the later of two lines."""
    prompts = [entry.asked for entry in entries]
    yield from _repeated(entries, prompts, range(len(entries)), "prompt")
    owner = [number for number, entry in enumerate(entries) for _ in entry.answers]
    yield from _repeated(entries, [answer for entry in entries for answer in entry.answers], owner, "answer")
    yield from _similar(entries)
    yield from _contaminated(entries)
