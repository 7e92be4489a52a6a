"""Which dialogues a release was trained on: a line for each of them in a file of the release's folder.

A dialogue is known by what is said in it, so that one that was edited is another, and by its id, so that it can be told
which one was edited. Neither gives away what was said: a release is passed on to others.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from assistant import release
from assistant.dialogue import Dialogue
from assistant.errors import ThousandError
from assistant.files import write_text
from assistant.settings import bundled

DIALOGUES = "dialogues.txt"


class Learnt(NamedTuple):
    """A dialogue that a release was trained on."""

    fingerprint: str
    id: str | None


def fingerprint(dialogue: Dialogue) -> str:
    """16 hex digits of the roles and contents of a dialogue's messages; nothing else of it is trained on."""
    said = json.dumps(
        [[message.role, message.content] for message in dialogue.messages], ensure_ascii=False, separators=(",", ":")
    )
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def learnt(dialogue: Dialogue) -> Learnt:
    """How a release's folder names a dialogue."""
    return Learnt(fingerprint(dialogue), dialogue.id)


def write_lineage(place: Path, dialogues: Iterable[Dialogue]) -> None:
    """Put into a release's folder which dialogues it was trained on: the fingerprint and, behind a tab, the id as JSON."""
    write_text(place / DIALOGUES, "".join(_line(learnt(dialogue)) for dialogue in dialogues))


def _line(known: Learnt) -> str:
    return known.fingerprint + ("" if known.id is None else f"\t{json.dumps(known.id)}") + "\n"


def read_lineage(name: str) -> list[Learnt] | None:
    """The dialogues that an installed release was trained on; None for one made before releases kept that.

    Raises ThousandError for a file that is damaged.
    """
    # A release that came along may have been installed by a version of Thousand that knew no such file.
    for file in (release.folder() / name / DIALOGUES, bundled("releases") / name / DIALOGUES):
        if file.exists():
            break
    else:
        return None
    try:
        return [_parsed(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError:
        raise ThousandError(
            f"{file} is damaged, so what {name} was trained on is not known; remove the file."
        ) from None


def _parsed(line: str) -> Learnt:
    print_, tab, quoted = line.partition("\t")
    return Learnt(print_, json.loads(quoted) if tab else None)


def releases_trained_on(dialogue: str) -> list[str]:
    """The releases here, oldest first, that were trained on a dialogue, which is given by its fingerprint or its id.

    A release that was made before releases kept what they were trained on is not among them.
    """
    return [
        record.name
        for record in release.whole_ones()
        if any(dialogue in known for known in read_lineage(record.name) or ())
    ]
