"""Dialogues from a file, through the gate: into the queue, or, where nothing is found and it is asked for, into the kept file."""

from dataclasses import dataclass, field
from pathlib import Path

from assistant.base_model import Say
from assistant.dialogue import Dialogue
from assistant.jsonl import Problem
from serve.kept import kept_file
from serve.review import accept, enqueue
from serve.store import Store
from train.data.convert import read_any
from train.data.gate import Gate, Look


@dataclass
class Added:
    """What became of the lines of a file."""

    seen: list[tuple[str, Look]] = field(default_factory=list)
    """The place of each dialogue that is new, and what the gate saw of it."""
    accepted: int = 0
    waiting: int = 0
    again: list[str] = field(default_factory=list)
    """Places of dialogues that were kept, rejected or waiting already."""
    problems: list[Problem] = field(default_factory=list)
    """Lines that are no dialogue to learn from."""


def add(store: Store, file: Path, *, accept_clean: bool, by: str, say: Say) -> Added:
    """Bring the dialogues of a file in any known format into the queue, and with `accept_clean` those of them in which nothing was
    found into the kept file at once.

    Raises ThousandError when the file cannot be read, BadData for a JSON array that is torn.
    """
    dialogues, done = read_any(file)
    added = Added(problems=done.problems)
    new: list[tuple[Dialogue, str]] = []
    for dialogue in dialogues:
        if not dialogue.answers:
            added.problems.append(Problem(dialogue.where, "has no answer to learn from"))
            continue
        identifier = enqueue(store, dialogue, place=f"{file.name}:{dialogue.where.rpartition(':')[2]}", by=by)
        if identifier is None:
            added.again.append(dialogue.where)
        else:
            new.append((dialogue, identifier))
    looks = Gate(kept_file(), say).look([dialogue for dialogue, _ in new]) if new else []
    for (dialogue, identifier), look in zip(new, looks, strict=True):
        added.seen.append((dialogue.where, look))
        if accept_clean and look.clean:
            accept(store, identifier, reviewer=by)
            added.accepted += 1
        else:
            added.waiting += 1
    return added
