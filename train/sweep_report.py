"""A sweep's results for people: a table, which arms cannot be told from the best, and the command to go on with."""

import shlex
from collections.abc import Sequence

from rich.table import Table

from assistant.errors import ThousandError
from train.grid import Sweep
from train.results import Failed, Result


def latest(results: Sequence[Result | Failed]) -> list[Result | Failed]:
    """The last result of each arm: those that went furthest first, the better first among them, those that failed last."""
    of_arm = {result.arm: result for result in sorted(results, key=lambda result: result.rung)}
    return sorted(of_arm.values(), key=_place)


def _place(result: Result | Failed) -> tuple[bool, int, float]:
    if isinstance(result, Failed):
        return True, -result.rung, 0.0
    return False, -result.rung, -(result.standing.score.mean if result.standing else result.score)


def table(results: Sequence[Result | Failed]) -> Table:
    """Every arm where it ended."""
    numbers = list(dict.fromkeys(name for result in results for name in result.changes))
    columns = ["rung", "step", "score", "by", "behind", "stopped", "checks", "dev loss", "words", "min"]
    shown = Table("arm", *numbers, *columns, box=None)
    for result in latest(results):
        changes = [str(result.changes.get(name, "")) for name in numbers]
        if isinstance(result, Failed):
            shown.add_row(result.arm, *changes, str(result.rung + 1), "", f"failed: {result.failed}")
        else:
            shown.add_row(result.arm, *changes, *_cells(result))
    return shown


def _cells(result: Result) -> list[str]:
    low, mean, high, by, behind = result.low, result.score, result.high, "", ""
    if result.standing is not None:
        score, by = result.standing.score, result.standing.by
        low, mean, high = score.low, score.mean, score.high
        if result.standing.behind is not None:
            apart = result.standing.behind
            behind = f"{result.standing.best} by {apart.mean:.3f} [{apart.low:.3f}, {apart.high:.3f}]"
    return [
        "end" if result.last else str(result.rung + 1),
        str(result.step),
        f"{mean:.3f} [{low:.3f}, {high:.3f}]",
        by,
        behind,
        f"{result.stop_rate:.0%}",
        "" if result.checks is None else f"{result.checks:.2f}",
        f"{result.dev_loss:.3f}",
        f"{result.words:.0f}",
        f"{result.seconds / 60:.1f}",
    ]


def told_apart(results: Sequence[Result | Failed]) -> str:
    """One sentence on which arms the dev prompts cannot tell from the best one at the rung where they ended."""
    alike = [
        result.arm
        for result in latest(results)
        if isinstance(result, Result) and result.standing and result.standing.behind and result.standing.behind.low <= 0
    ]
    return (
        "Behind: the mean difference to the best arm at that rung over the same dev prompts, with its 95 % interval. "
        + (
            f"Not to be told from it, as 0 is in the interval: {', '.join(alike)}."
            if alike
            else "0 is in none of them."
        )
    )


def best_command(sweep: Sweep, results: Sequence[Result | Failed]) -> str:
    """The command that trains a release by the best arm's recipe. Raises ThousandError when every arm failed."""
    best = latest(results)[0]
    if isinstance(best, Failed):
        raise ThousandError(
            f"Every arm of the sweep {sweep.name} failed, so there is no best one. "
            "Lower learning_rate in the grid, and give the new sweep another --name."
        )
    changes = {**sweep.grid.numbers, **best.changes}
    words = ["thousand", "train"]
    if sweep.grid.recipe != "laptop":
        words += ["--recipe", sweep.grid.recipe]
    if sweep.grid.base is not None:
        words += ["--base", sweep.grid.base]
    for path in sweep.grid.data:
        words += ["--data", str(sweep.beside / path)]
    if sweep.grid.dev is not None:
        words += ["--dev", str(sweep.beside / sweep.grid.dev)]
    for name, value in changes.items():
        words += ["--set", f"{name}={value}"]
    return shlex.join(words)
