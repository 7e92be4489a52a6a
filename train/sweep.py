"""A sweep over a recipe's numbers by successive halving (Jamieson and Talwalkar 2016; Li et al. 2018, section 3.1).

Every combination of the grid's lists is an arm, and every arm is a run of its own. All are trained to the first rung and
judged there by what they say to the dev prompts; the better ones go on to the next, from where they stopped, and the last
rung is each one's end. A sweep that was interrupted goes on where it was: what is done stands in `results.jsonl`.
"""

import gc
import math
import os
import shutil
from collections.abc import Callable

from assistant import base_model
from assistant.base_model import Say, quiet
from assistant.errors import ThousandError
from train.faults import Diverged
from train.fit import Interrupted
from train.grid import Arm, Sweep
from train.results import Failed, Result, add_result, rank, read_results, replace_results
from train.run import Run, begin_run, for_base, read_run, runs_folder
from train.session import train_in_less
from train.watch import Step


def run_sweep(sweep: Sweep, report: Callable[[str, Step], None], say: Say) -> list[Result | Failed]:
    """Train and judge what is not done yet; returns every result, the latest of an arm last.

    An arm that diverges is a result too. Raises ThousandError for whatever else stops a run.
    """
    going = sweep.arms
    rungs: list[float | None] = [*sweep.grid.rungs, None]
    for number, epochs in enumerate(rungs):
        at_rung = [_result(sweep, arm, number, epochs, report, say) for arm in going]
        whole = [one for one in at_rung if isinstance(one, Result)]
        if not whole:
            break
        ranked = rank(whole)
        replace_results(sweep.results_file, ranked)
        if epochs is None:
            break
        names = {one.arm for one in ranked[: math.ceil(len(going) * sweep.grid.keep)]}
        for arm in going:
            if arm.name not in names:
                shutil.rmtree(runs_folder() / arm.name / "checkpoints", ignore_errors=True)
        going = [arm for arm in going if arm.name in names]
        say(f"rung {number + 1}: {len(names)} of {len(at_rung)} arms go on: {', '.join(sorted(names))}")
    return read_results(sweep.results_file)


def _result(
    sweep: Sweep, arm: Arm, rung: int, epochs: float | None, report: Callable[[str, Step], None], say: Say
) -> Result | Failed:
    done = read_results(sweep.results_file)
    known = next((one for one in done if (one.arm, one.rung) == (arm.name, rung)), None)
    if known is not None:
        return known
    run = _run(sweep, arm, say)
    say(f"{arm.name}: {arm}")
    before = _cpu_seconds()
    result: Result | Failed
    try:
        result = _trained(arm, run, rung, epochs, before, report, say)
    except Interrupted:
        raise Interrupted(f"Stopped in {arm.name}, which is saved. Go on with the same command.") from None
    except Diverged as error:
        reason = str(error).partition(";")[0]
        say(f"{arm.name} failed: {reason}")
        spent = round(_cpu_seconds() - before, 1)
        result = Failed(arm=arm.name, rung=rung, changes=arm.changes, failed=reason, cpu_seconds=spent)
    add_result(sweep.results_file, result)
    gc.collect()  # an arm's model is part of cycles, and would wait beside the next one's
    return result


def _run(sweep: Sweep, arm: Arm, say: Say) -> Run:
    """The arm's run, begun or gone on with. Raises ThousandError when a run of its name is another one."""
    if not (runs_folder() / arm.name / "run.json").exists():
        return begin_run(arm.name, sweep.grid.base, arm.recipe, sweep.files, sweep.dev, say)
    run = read_run(arm.name)
    asked = for_base(arm.recipe, base_model.resolve(run.base, say), quiet).model_dump()
    # Found when a run begins, and what a run that is resumed may change.
    settled = {"tokens_per_micro_batch", *(["precision"] if arm.recipe.precision == "auto" else [])}
    numbers = [name for name, value in run.recipe.model_dump().items() if value != asked[name] and name not in settled]
    differ = [*numbers, *run.other_than(sweep.begun)]
    if differ:
        raise ThousandError(
            f"There is a run {arm.name!r} already, and it is no arm of this sweep: it differs in {', '.join(differ)}. "
            f"Remove {run.folder}, or give the sweep another --name."
        )
    return run


def _trained(
    arm: Arm,
    run: Run,
    rung: int,
    epochs: float | None,
    cpu_seconds_before: float,
    report: Callable[[str, Step], None],
    say: Say,
) -> Result:
    chosen = train_in_less(run, arm.name, lambda step: report(arm.name, step), say, until_epoch=epochs)
    scored = chosen.scored if epochs is None else max(chosen.candidates, key=lambda one: one.step)
    return Result(
        arm=arm.name,
        rung=rung,
        last=epochs is None,
        step=scored.step,
        changes=arm.changes,
        score=scored.score.mean,
        low=scored.score.low,
        high=scored.score.high,
        graded=scored.graded_score,
        stop_rate=scored.stop_rate,
        dev_loss=scored.dev_loss,
        checks=scored.parts.get("checks"),
        words=scored.words,
        seconds=chosen.fitted.measured["seconds"],
        cpu_seconds=round(_cpu_seconds() - cpu_seconds_before, 1),
    )


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
