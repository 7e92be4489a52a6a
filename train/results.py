"""The results of a sweep: a line for each arm at each rung, and how far arms are behind the best one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from assistant.files import append_line, write_text
from evaluation.intervals import Interval, paired
from evaluation.quality import Quality
from train.choose import answers_file, comparable
from train.grid import Value
from train.run import runs_folder


class Standing(BaseModel):
    """Where an arm stands among those that were judged at its rung."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["grades", "program"]
    """What ranked them: scores with a judge's grades, or what a program can tell alone."""
    score: Interval
    """The one that ranked it."""
    best: str
    """The arm with the highest one."""
    behind: Interval | None
    """The mean over the dev prompts of the best arm's score less this one's, with its 95 % bootstrap interval; None for the
    best itself, and where its answers are gone."""


class Result(BaseModel):
    """An arm at a rung; a line of `results.jsonl`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arm: str
    rung: int
    last: bool
    """Trained to its end."""
    step: int
    changes: dict[str, Value]
    score: float
    """By what a program can tell, with its interval."""
    low: float
    high: float
    graded: Interval | None = None
    """The score with a judge's grades, where nearly all answers have one."""
    stop_rate: float
    dev_loss: float
    checks: float | None
    words: float
    seconds: float
    """In training, from the arm's beginning."""
    cpu_seconds: float
    """All processors' time for this rung, judging included."""
    standing: Standing | None = None
    """Known once every arm of the rung has been judged."""


class Failed(BaseModel):
    """An arm that diverged on the way to a rung; a line of `results.jsonl`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arm: str
    rung: int
    changes: dict[str, Value]
    failed: str
    """Why."""
    cpu_seconds: float


_LINE: TypeAdapter[Result | Failed] = TypeAdapter(Result | Failed)


def rank(results: Sequence[Result]) -> list[Result]:
    """The results of the arms at one rung, the best first and of equal ones the earlier, each with its standing."""
    scores = comparable([(Interval(mean=one.score, low=one.low, high=one.high), one.graded) for one in results])
    by: Literal["grades", "program"] = "program" if any(one.graded is None for one in results) else "grades"
    ranked = sorted(zip(results, scores, strict=True), key=lambda pair: -pair[1].mean)
    best = ranked[0][0]
    return [
        one.model_copy(
            update={
                "standing": Standing(
                    by=by,
                    score=score,
                    best=best.arm,
                    behind=None if one is best else _behind(best, one, with_grade=by == "grades"),
                )
            }
        )
        for one, score in ranked
    ]


def _behind(best: Result, other: Result, *, with_grade: bool) -> Interval | None:
    """Over the prompts whose answers of both have a score: answers to one prompt differ less than prompts do."""
    first, second = (_scores(one, with_grade=with_grade) for one in (best, other))
    return paired(list(first.values()), [second.get(prompt) for prompt in first])


def _scores(result: Result, *, with_grade: bool) -> dict[tuple[int, str | None], float]:
    """The score of each answer, by the number and the id of its prompt."""
    file = answers_file(runs_folder() / result.arm, result.step)
    if not file.exists():
        return {}
    answers = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {
        (number, answer["id"]): Quality(answer["parts"], answer["own"]).score(with_grade=with_grade)
        for number, answer in enumerate(answers)
        if not with_grade or answer["grade"] is not None
    }


def read_results(file: Path) -> list[Result | Failed]:
    """What is done; without a line that a crash cut, whose arm is judged again."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            json.loads(line)
        except ValueError:
            continue
        found.append(_LINE.validate_json(line))
    return found


def replace_results(file: Path, results: Sequence[Result]) -> None:
    """Put other lines in the place of those of the same arms at the same rungs."""
    others = {(one.arm, one.rung): one for one in results}
    lines = [others.get((one.arm, one.rung), one).model_dump_json() + "\n" for one in read_results(file)]
    write_text(file, "".join(lines))


def add_result(file: Path, result: Result | Failed) -> None:
    """Put a line on the disk."""
    append_line(file, result.model_dump_json())
