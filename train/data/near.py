"""Lines that are too near to one another, and training lines that give away what is held out."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from datasketch import MinHash, MinHashLSH

from assistant.base_model import Say
from assistant.embedding import embed
from train.data.corpus import Entry
from train.data.finding import Finding, Rule
from train.data.words import mostly_latin, normal, runs, tokens_of, words_of

RULES = (
    Rule("duplicate-prompt", "error", "prompts that say the same"),
    Rule("duplicate-answer", "error", "answers that say the same"),
    Rule("near-duplicate-prompt", "error", "prompts that share half of their three-word shingles (MinHash)"),
    Rule("near-duplicate-answer", "error", "answers that share half of their three-word shingles (MinHash)"),
    Rule("similar-prompt", "error", "prompts that mean nearly the same (sentence embeddings; Latin script)"),
    Rule("contamination", "error", "what a held-out line has too: a prompt or answer, or eight words in a row"),
)

SHINGLE = 3
JACCARD = 0.5
COSINE = 0.8
"""In the set that comes along the nearest two prompts are at 0.75, and they ask different things."""
GRAM = 8
LONG_PROMPT = 45
"""Words. The embedding sees no more; of two longer prompts it may see the same instruction and not the different rest."""
BLOCK = 1024


@dataclass(frozen=True)
class _Text:
    """One text and the line it stands in."""

    text: str
    entry: Entry


def _finding(text: _Text, earlier: _Text, rule: str, noun: str, how: str, more: int = 0) -> Finding:
    """A finding at the training line of a pair, at the later line otherwise; `more` others are as near."""
    if text.entry.held_out != earlier.entry.held_out:
        rule = "contamination"
        if text.entry.held_out:
            text, earlier = earlier, text
    others = f" and {more} more" if more else ""
    return Finding(text.entry.where, rule, f"its {noun} {how} that of {earlier.entry.where}{others}")


def _same(texts: Sequence[_Text], noun: str) -> tuple[list[_Text], list[Finding]]:
    """The first of each group of texts that say the same, and a finding for every other one."""
    groups: dict[str, list[_Text]] = defaultdict(list)
    for text in texts:
        groups[normal(text.text)].append(text)
    findings = [
        _finding(later, group[0], f"duplicate-{noun}", noun, "says the same as")
        for group in groups.values()
        for later in group[1:]
        if later.entry is not group[0].entry
    ]
    return [group[0] for group in groups.values()], findings


def _nearly_same(texts: Sequence[_Text], noun: str) -> Iterator[Finding]:
    """A finding for each text whose shingles have a Jaccard similarity of at least JACCARD with an earlier one's.

    Candidates come from locality-sensitive hashing of MinHash signatures (Broder 1997), so that the time grows with the
    number of texts and not with its square; each candidate is then compared exactly. With 32 bands of 2 rows a pair at
    the threshold is missed once in 10,000 times.
    """
    shingles = [runs(tokens_of(text.text), SHINGLE) for text in texts]
    signatures = MinHash.bulk([[item.encode() for item in sorted(items)] for items in shingles], num_perm=64)
    index = MinHashLSH(num_perm=64, params=(32, 2))
    for later, (text, own) in enumerate(zip(texts, shingles, strict=True)):
        if not own:
            continue
        near = {
            earlier: len(own & shingles[earlier]) / len(own | shingles[earlier])
            for earlier in index.query(signatures[later])
            if texts[earlier].entry is not text.entry
        }
        near = {earlier: jaccard for earlier, jaccard in near.items() if jaccard >= JACCARD}
        if near:
            nearest = max(sorted(near), key=near.__getitem__)
            how = f"shares {near[nearest]:.0%} of its shingles with"
            yield _finding(text, texts[nearest], f"near-duplicate-{noun}", noun, how, len(near) - 1)
        index.insert(later, signatures[later])


def _similar(prompts: Sequence[_Text], say: Say) -> Iterator[Finding]:
    seen = [prompt for prompt in prompts if mostly_latin(prompt.text)]
    if len(seen) < len(prompts):
        say(f"{len(prompts) - len(seen)} prompts in other scripts are not compared by meaning")
    if not seen:
        return
    vectors = embed([prompt.text for prompt in seen], say)
    long = np.array([len(prompt.text.split()) > LONG_PROMPT for prompt in seen])
    for start in range(0, len(seen), BLOCK):
        cosines = vectors[start : start + BLOCK] @ vectors[: start + BLOCK].T
        for row, later in enumerate(range(start, min(start + BLOCK, len(seen)))):
            near = cosines[row, :later]
            near = np.where(long[:later] & long[later], 0.0, near)
            found = np.flatnonzero(near >= COSINE)
            if len(found):
                nearest = int(found[near[found].argmax()])
                how = f"means nearly the same ({near[nearest]:.2f}) as"
                yield _finding(seen[later], seen[nearest], "similar-prompt", "prompt", how, len(found) - 1)


def _shared_grams(entries: Sequence[Entry]) -> Iterator[Finding]:
    held_out: dict[str, Entry] = {}
    for entry in entries:
        if entry.held_out:
            for words in map(words_of, entry.prompts + entry.answers):
                if len(words) >= GRAM:
                    held_out.update((gram, entry) for gram in runs(words, GRAM))
    for entry in entries:
        if entry.held_out:
            continue
        shared: dict[str, str] = {}
        for words in map(words_of, entry.texts):
            for gram in sorted(runs(words, GRAM) & held_out.keys()):
                shared.setdefault(held_out[gram].where, gram)
        for where, gram in shared.items():
            yield Finding(entry.where, "contamination", f"has {gram!r} in common with {where}")


def near(entries: Sequence[Entry], others: Sequence[Entry], say: Say) -> Iterator[Finding]:
    """Findings of every rule of this module on `entries`, which are compared with one another and with `others`.

    What is wrong between two of `others` is not told.
    """
    everything = [*others, *entries]
    ours = {entry.where for entry in entries}
    findings: list[Finding] = []
    prompts, found = _same([_Text(entry.asked, entry) for entry in everything], "prompt")
    answers, more = _same([_Text(answer, entry) for entry in everything for answer in entry.answers], "answer")
    findings += [*found, *more, *_nearly_same(prompts, "prompt"), *_nearly_same(answers, "answer")]
    findings += [*_similar(prompts, say), *_shared_grams(everything)]
    yield from (finding for finding in findings if finding.where in ours)
