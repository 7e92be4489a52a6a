"""What a retraining would learn from, and what of it is new since the current release."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from assistant.dialogue import Dialogue, data_files
from assistant.errors import ThousandError
from assistant.lineage import Learnt, learnt, read_lineage
from assistant.settings import bundled, settings


def kept_file() -> Path:
    """The dialogues that the user keeps."""
    return settings().home / "kept.jsonl"


class _Made(BaseModel):
    """Of a run's record what names its data; the rest is `train.run`'s, which loads torch."""

    model_config = ConfigDict(extra="ignore")

    files: dict[str, str]


def training_files(name: str, data: Sequence[Path] | None = None) -> list[Path]:
    """The files that a release's successor is trained on: its own, as they are now, and the kept dialogues.

    Its own are those of its run where that was done here, else those that come along with Thousand; `data` names others. The paper
    trains on the whole set from the base, and so does this. Raises ThousandError for a file of its run that is gone, BadData for
    files in `data` that cannot be had.
    """
    kept = kept_file()
    sources = list(data) if data else _files_of(name)
    files = [file for file in data_files(sources) if file != kept.resolve()]
    if kept.exists() and kept.read_bytes().strip():
        files.append(kept)
    return files


def _files_of(name: str) -> list[Path]:
    record = settings().home / "runs" / name / "run.json"
    if not record.exists():
        return [bundled("dialogues")]
    try:
        files = [Path(file) for file in _Made.model_validate_json(record.read_bytes()).files]
    except ValidationError:
        raise ThousandError(f"{record} is damaged; name the data with: thousand retrain --data FILE") from None
    # What a retraining was trained on of the kept dialogues is a copy, which goes when it has ended.
    files = [file for file in files if not file.is_relative_to(settings().home / "retrain")]
    gone = [str(file) for file in files if not file.exists()]
    if gone:
        raise ThousandError(
            f"{name} was trained on {', '.join(gone)}, which is not there any more; put it back, or name the data with: "
            "thousand retrain --data FILE"
        )
    return files


class Counts(BaseModel):
    """How a training set differs from that of a release, in dialogues."""

    model_config = ConfigDict(extra="forbid")

    added: int
    changed: int
    removed: int
    same: int

    def __str__(self) -> str:
        return f"{self.added} added, {self.changed} changed, {self.removed} removed, {self.same} as before"


@dataclass(frozen=True)
class News:
    """How a training set differs from that of a release."""

    against: str
    added: list[Dialogue]
    changed: list[Dialogue]
    """As they are now; the id is the same and something that is said is not."""
    removed: list[Learnt]
    same: int
    known: bool
    """Whether the release keeps what it was trained on; if not, everything counts as added."""

    @property
    def any(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def counts(self) -> Counts:
        return Counts(added=len(self.added), changed=len(self.changed), removed=len(self.removed), same=self.same)


def news_since(name: str, dialogues: Sequence[Dialogue]) -> News:
    """What differs from the training set of a release, each dialogue counted as often as it stands there.

    Dialogues without an answer, of which nothing is learnt, do not count. Raises ThousandError for a damaged lineage.
    """
    before = read_lineage(name)
    left = Counter(one.fingerprint for one in before or ())
    others: list[Dialogue] = []
    same = 0
    for dialogue in dialogues:
        known = learnt(dialogue)
        if left[known.fingerprint] > 0:
            left[known.fingerprint] -= 1
            same += 1
        elif dialogue.answers:
            others.append(dialogue)
    gone = {one.id or one.fingerprint: one for one in before or () if _taken(left, one)}
    changed = [dialogue for dialogue in others if dialogue.id in gone]
    edited = {dialogue.id for dialogue in changed}
    return News(
        against=name,
        added=[dialogue for dialogue in others if dialogue.id not in gone],
        changed=changed,
        removed=[one for one in gone.values() if one.id not in edited or one.id is None],
        same=same,
        known=before is not None,
    )


def _taken(left: Counter[str], one: Learnt) -> bool:
    """Takes one of what is left of it, if any is."""
    if left[one.fingerprint] <= 0:
        return False
    left[one.fingerprint] -= 1
    return True
