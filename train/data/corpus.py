"""All lines of a data set in one shape, training and held-out ones alike, for the audit and the statistics."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from assistant.checks import Checks
from assistant.dialogue import HELD_OUT, Dialogue
from assistant.errors import BadData
from assistant.held_out import SafetyPrompt, ScriptedConversation, record_type
from assistant.jsonl import Problem, Record, read_records, repeated_ids


@dataclass(frozen=True)
class Entry:
    """One line: what the user says, what is answered."""

    where: str
    """`file:line`."""
    file: str
    """The file's name without its ending."""
    id: str | None
    topic: str
    system: str | None
    prompts: tuple[str, ...]
    """The user's turns."""
    answers: tuple[str, ...]
    """The assistant's turns; of a safety prompt the safe answer; none where a set holds prompts only."""
    checks: Checks | None
    """What the answer to the last prompt must satisfy."""
    answered: bool
    """Whether the last prompt has an answer."""

    @property
    def held_out(self) -> bool:
        """Whether the line judges a model and must not be trained on."""
        return self.file in HELD_OUT

    @property
    def asked(self) -> str:
        """All that the user says."""
        return "\n".join(self.prompts)

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that is said in the line."""
        return ((self.system,) if self.system else ()) + self.prompts + self.answers


def entry(record: Record) -> Entry:
    """A record of any of the files as an Entry."""
    file = Path(record.where.rpartition(":")[0]).stem
    topic = record.topic or ""
    if isinstance(record, ScriptedConversation):
        users = tuple(turn.user for turn in record.turns)
        return Entry(record.where, file, record.id, topic, record.system, users, (), None, False)
    assert isinstance(record, Dialogue)
    said = {
        role: tuple(m.content for m in record.messages if m.role == role) for role in ("system", "user", "assistant")
    }
    answers = (record.safe_answer,) if isinstance(record, SafetyPrompt) else said["assistant"]
    system = said["system"][0] if said["system"] else None
    return Entry(
        record.where,
        file,
        record.id,
        topic,
        system,
        said["user"],
        answers,
        record.checks,
        len(answers) == len(said["user"]),
    )


def files_of(sources: Iterable[Path]) -> list[Path]:
    """The `.jsonl` files that `sources` name, held-out sets included. Raises BadData naming each that is missing or empty."""
    files: list[Path] = []
    problems: list[str] = []
    for source in sources:
        inside = sorted(source.glob("*.jsonl")) if source.is_dir() else [source]
        if not inside:
            problems.append(f"{source}: the folder holds no .jsonl file")
        elif not source.exists():
            problems.append(f"{source}: there is no such file or folder; give a .jsonl file or a folder of them")
        files.extend(inside)
    if problems:
        raise BadData(problems)
    # The same file under two names would be a copy of itself.
    return list({path.resolve(): path for path in reversed(files)}.values())[::-1]


def read_corpus(files: Iterable[Path], problems: list[Problem]) -> list[Entry]:
    """The lines of the files; each that cannot be read, and each id used twice, is added to `problems`."""
    records: list[Record] = []
    for path in files:
        records.extend(read_records(path, record_type(path.stem), problems))
    problems.extend(repeated_ids(records))
    return [entry(record) for record in records]
