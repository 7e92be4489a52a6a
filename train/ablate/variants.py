"""The variants of the data that an ablation trains on: the same ones for the same data, choices and seed."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from assistant.dialogue import Dialogue
from assistant.errors import ThousandError
from evaluation.ablations import Kind
from train.ablate.degrade import cut, degraded, first_sentence, padded, swapped

HALVINGS = 4
"""1,000 examples are halved down to 62."""
MOST_ALIKE = 200
"""Examples in an arm of `diversity`, where there are so many of one group."""


@dataclass(frozen=True)
class Choices:
    """What a person may choose of the variants."""

    sizes: tuple[int, ...] = ()
    """Single examples in an arm, of `chains` chains; by default as `arms` says."""
    groups: tuple[str, ...] = ("howto",)
    """Whose prompts are the homogeneous ones."""


@dataclass(frozen=True)
class Arm:
    """One variant of the data."""

    name: str
    what: str
    """In a few words."""
    size: int
    """Single examples, of `chains` chains."""
    dialogues: tuple[Dialogue, ...]
    """In the order of the whole data."""


def group_of(dialogue: Dialogue) -> str:
    """Where a dialogue comes from: its source, or the name of its file."""
    return dialogue.source or Path(dialogue.where.rpartition(":")[0]).stem


def stratified(dialogues: Sequence[Dialogue], seed: int) -> list[int]:
    """All numbers of the dialogues in such an order that any first part of it has of each group nearly its share.

    Within a group the order is drawn by the seed.
    """
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for number, dialogue in enumerate(dialogues):
        groups[group_of(dialogue)].append(number)
    source = random.Random(seed)  # noqa: S311 (no secret)
    placed = []
    for name in sorted(groups):
        members = groups[name]
        source.shuffle(members)
        placed += [((place + source.random()) / len(members), number) for place, number in enumerate(members)]
    return [number for _, number in sorted(placed)]


def arms(kind: Kind, dialogues: Sequence[Dialogue], choices: Choices, seed: int) -> list[Arm]:
    """The arms of an ablation for a seed; the last one of `quantity` and `chains`, and the first one of `quality`, is the whole.

    Raises ThousandError, naming every problem, for sizes and groups that the data does not have.
    """
    singles = [dialogue for dialogue in dialogues if len(dialogue.answers) == 1]
    makers: dict[Kind, Callable[[], list[Arm]]] = {
        "quantity": lambda: _quantity(singles, choices, seed),
        "chains": lambda: _chains(dialogues, choices, seed),
        "diversity": lambda: _diversity(singles, choices, seed),
        "quality": lambda: _quality(singles, choices, seed),
    }
    return makers[kind]()


def _checked(sizes: Iterable[int], least: int, most: int, of: str) -> list[int]:
    found = sorted(set(sizes))
    wrong = [str(size) for size in found if not least <= size <= most]
    if wrong or not found:
        raise ThousandError(
            f"--size {', '.join(wrong)} cannot be had: the data has {most} {of}, and {least} is the least."
        )
    return found


def _part(dialogues: Sequence[Dialogue], numbers: Iterable[int]) -> tuple[Dialogue, ...]:
    return tuple(dialogues[number] for number in sorted(numbers))


def _quantity(singles: Sequence[Dialogue], choices: Choices, seed: int) -> list[Arm]:
    halves = [len(singles) >> halving for halving in range(HALVINGS + 1)]
    sizes = _checked(choices.sizes or [size for size in halves if size], 1, len(singles), "single-turn examples")
    order = stratified(singles, seed)
    return [Arm(str(size), f"{size:,} single-turn examples", size, _part(singles, order[:size])) for size in sizes]


def _chains(dialogues: Sequence[Dialogue], choices: Choices, seed: int) -> list[Arm]:
    chains = [number for number, dialogue in enumerate(dialogues) if len(dialogue.answers) > 1]
    others = set(range(len(dialogues))) - set(chains)
    if not chains:
        raise ThousandError("The data has no dialogue of several turns, so there is nothing to leave out; give some.")
    sizes = _checked(choices.sizes or (0, len(chains)), 0, len(chains), "chains")
    random.Random(seed).shuffle(chains)  # noqa: S311 (no secret)
    return [
        Arm(
            str(size),
            f"{len(others):,} single-turn examples, {size} chains",
            size,
            _part(dialogues, others | set(chains[:size])),
        )
        for size in sizes
    ]


def _only_size(choices: Choices, default: int, most: int, of: str) -> int:
    if len(choices.sizes) > 1:
        raise ThousandError("All arms of this ablation have one size: give --size once.")
    return _checked(choices.sizes or (default,), 2, most, of)[0]


def _diversity(singles: Sequence[Dialogue], choices: Choices, seed: int) -> list[Arm]:
    groups: defaultdict[str, list[Dialogue]] = defaultdict(list)
    for dialogue in singles:
        groups[group_of(dialogue)].append(dialogue)
    missing = [name for name in choices.groups if name not in groups]
    if missing:
        raise ThousandError(
            f"The data has no group {', '.join(missing)}; give one with --group: {', '.join(sorted(groups))}."
        )
    most = min(len(groups[name]) for name in choices.groups)
    size = _only_size(choices, min(MOST_ALIKE, most), most, f"examples of {' or '.join(choices.groups)}")
    mixed = _part(singles, stratified(singles, seed)[:size])
    return [
        Arm("mixed", f"{size} examples of {len(set(map(group_of, mixed)))} groups", size, mixed),
        *[
            Arm(
                name,
                f"{size} examples of {name} alone",
                size,
                _part(groups[name], stratified(groups[name], seed)[:size]),
            )
            for name in choices.groups
        ],
    ]


def _quality(singles: Sequence[Dialogue], choices: Choices, seed: int) -> list[Arm]:
    size = _only_size(choices, len(singles), len(singles), "single-turn examples")
    written = _part(singles, stratified(singles, seed)[:size])
    made: dict[str, tuple[str, Sequence[Dialogue]]] = {
        "as-written": ("answers as they are", written),
        "padded": ("the same, between an empty opening and ending", degraded(written, padded)),
        "first-sentence": ("the first sentence of each answer", degraded(written, first_sentence)),
        "cut": ("the first half of each answer, ended in mid-sentence", degraded(written, cut)),
        "swapped": ("the answer to another prompt of the group", swapped(written, group_of, seed)),
    }
    return [Arm(name, what, size, tuple(dialogues)) for name, (what, dialogues) in made.items()]
