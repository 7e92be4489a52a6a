"""What is voted on and what was voted, on the disk: one folder below `THOUSAND_HOME/evaluations/polls` for each question, set and
systems.

`sheet.json` holds the prompts and answers, `votes.jsonl` each vote of a person and `replies.jsonl` each reply of a judge model, word
for word, a line as it comes. A vote is found by the content of what it is on (prompt and answers), as kept answers are: who left
goes on, and a vote on an answer that is another one now does not count, and is named.
"""

from datetime import datetime
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from pydantic import ValidationError

from assistant.errors import ThousandError
from assistant.files import append_line, write_text
from assistant.settings import settings
from evaluation.judge_model import JudgeName
from evaluation.voting.scale import SCALES, Scale
from evaluation.voting.sheet import Item, Model, Sheet

SHEET, VOTES, REPLIES = "sheet.json", "votes.jsonl", "replies.jsonl"


LineT = TypeVar("LineT", bound=Model)


class Vote(Model):
    """One vote of a person; a later one on the same takes its place."""

    key: str
    prompt: str
    voter: str
    vote: str | None
    """None takes it back."""
    swapped: bool
    """The second system's answer was shown as A."""
    when: datetime


class Reply(Model):
    """What came of asking a judge model once."""

    request: str
    """A hash of all that it was asked."""
    prompt: str
    judge: JudgeName
    swapped: bool
    reply: str | None
    """What it wrote, word for word."""
    failure: str | None
    """Why there is no reply."""
    cut: bool = False
    """It came to the end of its tokens."""
    when: datetime


class Poll:
    """A sheet on the disk, and what was voted on it."""

    def __init__(self, folder: Path) -> None:
        """Of the folder that it is in. Raises ThousandError when it is damaged."""
        self.folder = folder
        try:
            self.sheet = Sheet.model_validate_json((folder / SHEET).read_bytes())
        except (OSError, ValidationError):
            raise ThousandError(f"{folder / SHEET} is damaged; remove it, and ask again what it was made by.") from None

    @classmethod
    def of(cls, sheet: Sheet) -> "Poll":
        """A sheet's poll, with the votes that there are. Whoever named the two systems the other way round began the same one."""
        place = polls(settings().home)
        if not (place / sheet.folder).exists() and (place / sheet.turned.folder).exists():
            sheet = sheet.turned
        folder = place / sheet.folder
        file = folder / SHEET
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            before = cls(folder).sheet if file.exists() else None
            whole = sheet if before is None else sheet.joined(before)
            if whole != before:
                write_text(file, whole.model_dump_json(indent=1) + "\n")
        return cls(folder)

    @property
    def scale(self) -> Scale:
        return SCALES[self.sheet.scale]

    def items(self, most: int | None) -> tuple[Item, ...]:
        """What is voted on, in the order in which it is shown; no more than so many."""
        return self.sheet.items[:most]

    def votes(self) -> list[Vote]:
        """Of people, in the order in which they were given."""
        return _lines(self.folder / VOTES, Vote)

    def replies(self) -> list[Reply]:
        """Of judge models, in the order in which they came."""
        return _lines(self.folder / REPLIES, Reply)

    def add(self, line: Vote | Reply) -> None:
        """Put a vote or a reply on the disk."""
        with FileLock(self.folder / "lock"):
            append_line(self.folder / (VOTES if isinstance(line, Vote) else REPLIES), line.model_dump_json())


def polls(home: Path) -> Path:
    """Where a home has its polls."""
    return home / "evaluations" / "polls"


def _lines(file: Path, kind: type[LineT]) -> list[LineT]:
    """A file's lines but for one that a crash cut: that vote is asked for again."""
    found: list[LineT] = []
    for line in file.read_bytes().splitlines() if file.exists() else []:
        try:
            found.append(kind.model_validate_json(line))
        except ValidationError:
            continue
    return found
