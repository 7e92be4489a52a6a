"""A candidate release against the current one: what each says to the dev prompts, the scripted conversations and the safety
prompts, each with its own settings and the same seed, and how far they are apart over the same prompts.

The record stands in the candidate's folder. Answers are kept as they come (`evaluation.asking`), so a comparison that was stopped
goes on, and the current release is asked only once however many candidates it meets.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from assistant import __version__, base_model, release
from assistant.base_model import Say
from assistant.errors import ThousandError
from assistant.files import write_text
from assistant.held_out import ScriptedConversation
from evaluation import conversations, dev, safety
from evaluation.asking import Answered, ask
from evaluation.conversations import first_failures
from evaluation.intervals import Interval, paired, pairs
from evaluation.sets import MAX_TOKENS, Columns, PromptSet, Replies, Reply, SetName
from evaluation.systems import Asked, need_not_be_here, open_system
from serve.start import EngineName

SideName = Literal["candidate", "current"]
FILE = "comparison.json"
Progress = Callable[[int, int, str], None]
"""Told how many answers of how many are there, and whose they are."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Side(Asked):
    """One of the two systems."""

    changed: tuple[str, ...]
    """Prompts that it had been asked before in other words, `set/prompt`; they were asked anew."""

    @property
    def asked(self) -> Asked:
        """What it is, whatever was asked."""
        return Asked(**self.model_dump(include=set(Asked.model_fields)))


class Measure(_Model):
    """One measure of both over the prompts of a set for which both have a value."""

    name: str
    prompts: int
    candidate: Interval
    current: Interval
    difference: Interval
    """Candidate less current, prompt by prompt."""


class ComparedSet(_Model):
    """What both said to one set."""

    name: SetName
    file: str
    """Its name; a set of the user's own is told by its hash."""
    sha256: str
    left_out: tuple[str, ...]
    """Duplicates, which were not asked."""
    measures: tuple[Measure, ...]
    scripts: tuple[ScriptedConversation, ...]
    """What was asked, without its checks."""
    candidate: tuple[tuple[Reply, ...], ...]
    """For each script, what came of each turn."""
    current: tuple[tuple[Reply, ...], ...]
    first_failures: dict[SideName, dict[int, int]] = {}
    """Of conversations, for `candidate` and `current`: a turn's number to how many fail there first."""

    def replies(self, side: SideName) -> tuple[tuple[Reply, ...], ...]:
        return self.candidate if side == "candidate" else self.current


class Comparison(_Model):
    """The record of one comparison."""

    made: datetime
    version: str
    candidate: Side
    current: Side
    sets: tuple[ComparedSet, ...]

    @property
    def id(self) -> str:
        """A hash of what was asked and said, whenever and from whichever file."""
        said = self.model_dump_json(
            exclude={
                "made": True,
                "version": True,
                "candidate": {"changed"},
                "current": {"changed"},
                "sets": {"__all__": {"file", "sha256", "left_out"}},
            }
        )
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def set(self, name: SetName) -> ComparedSet:
        return next(one for one in self.sets if one.name == name)

    def measure(self, of: SetName, name: str) -> Measure | None:
        """A measure of a set; None where no prompt has it."""
        return next((one for one in self.set(of).measures if one.name == name), None)

    @classmethod
    def read(cls, candidate: str) -> "Comparison":
        """The last comparison of a release. Raises ThousandError when there is none, or it is damaged, or of another
        release that had the same name."""
        place = release.path(candidate)
        again = f"thousand evaluate compare {candidate}"
        file = place / FILE
        if not file.exists():
            raise ThousandError(f"{candidate} has not been compared with another release yet; do it with: {again}")
        try:
            found = cls.model_validate_json(file.read_bytes())
        except ValidationError:
            raise ThousandError(f"{file} is damaged; make it again with: {again}") from None
        if found.candidate.adapter_sha256 != release.read(place).adapter_sha256:
            raise ThousandError(
                f"{file} is of another release than the {candidate} that is here; make it again: {again}"
            )
        return found

    def save(self) -> Path:
        """Put it into the candidate's folder, in place of the one before."""
        file = release.path(self.candidate.name) / FILE
        write_text(file, self.model_dump_json(indent=1) + "\n")
        return file


def prompt_sets(files: Mapping[SetName, Path], say: Say) -> list[PromptSet]:
    """The three sets, each from the file given for it or from the one that comes along."""
    return [
        dev.prompt_set(files.get("dev"), say),
        conversations.prompt_set(files.get("conversations")),
        safety.prompt_set(files.get("safety")),
    ]


def _measures(candidate: Columns, current: Columns) -> tuple[Measure, ...]:
    found = []
    for name, column in candidate.items():
        difference = paired(column, current[name])
        if difference is not None:
            first, second = zip(*pairs(column, current[name]), strict=True)
            found.append(
                Measure(
                    name=name,
                    prompts=len(first),
                    candidate=Interval.of_measure(name, first),
                    current=Interval.of_measure(name, second),
                    difference=difference,
                )
            )
    return tuple(found)


def _frozen(replies: Replies) -> tuple[tuple[Reply, ...], ...]:
    return tuple(map(tuple, replies))


def _compared(asked: PromptSet, candidate: Replies, current: Replies) -> ComparedSet:
    def bare(script: ScriptedConversation) -> ScriptedConversation:
        return script.model_copy(update={"turns": tuple(t.model_copy(update={"checks": None}) for t in script.turns)})

    failures: dict[SideName, dict[int, int]] = {}
    if asked.name == "conversations":
        failures = {
            "candidate": first_failures(asked.scripts, candidate),
            "current": first_failures(asked.scripts, current),
        }
    return ComparedSet(
        name=asked.name,
        file=asked.file.name,
        sha256=asked.sha256,
        left_out=asked.left_out,
        measures=_measures(asked.columns(candidate), asked.columns(current)),
        scripts=tuple(map(bare, asked.scripts)),
        candidate=_frozen(candidate),
        current=_frozen(current),
        first_failures=failures,
    )


def compare(
    candidate: str,
    current: str | None = None,
    *,
    say: Say = base_model.quiet,
    progress: Progress = lambda done, total, beside: None,
    files: Mapping[SetName, Path] | None = None,
    max_tokens: int = MAX_TOKENS,
    seed: int = 0,
    engine: EngineName = "auto",
) -> Comparison:
    """Ask a release and another one (the current one by default; what else there is tells `open_system`), and
    write down the comparison.

    `files` are read in place of the sets that come along. The two are asked one after the other, so that only one model is in memory.
    Raises ThousandError for what cannot be had, and when an engine fails again and again; what was answered is kept then.
    """
    known = release.read(release.path(candidate, say))
    other = release.current(say) if current is None else current
    if other == candidate:
        raise ThousandError(
            f"{candidate} would be compared with itself; name another release, or base: thousand evaluate compare {candidate} base"
        )
    if not need_not_be_here(other):
        release.path(other, say)
    sets = prompt_sets(files or {}, say)
    total = 2 * sum(asked.turns for asked in sets)
    done = 0

    def one_side(name: str) -> tuple[Side, Answered]:
        settings = {"max_tokens": max_tokens, "seed": seed}
        system = open_system(name, known, engine=engine, say=say, settings=settings)

        def more(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total, system.name)

        answered = ask(system, sets, more)
        return Side(**dict(system.asked), changed=tuple(answered.changed)), answered

    (candidate_side, of_candidate), (current_side, of_current) = one_side(candidate), one_side(other)
    compared = Comparison(
        made=release.now(),
        version=__version__,
        candidate=candidate_side,
        current=current_side,
        sets=tuple(
            _compared(asked, first, second)
            for asked, first, second in zip(sets, of_candidate.replies, of_current.replies, strict=True)
        ),
    )
    compared.save()
    return compared
