"""A retraining from its beginning, or from where it was interrupted, to a candidate that is compared with the current release."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from assistant import release
from assistant.base_model import Say
from assistant.dialogue import data_files, read_dialogues
from assistant.errors import ThousandError
from assistant.jsonl import write_records
from assistant.lineage import fingerprint
from evaluation.compare import prompt_sets
from evaluation.sets import SetName
from train.fit import Interrupted
from train.make_release import make_release
from train.retrain.estimate import Took, write_took
from train.retrain.news import kept_file
from train.retrain.plan import Plan
from train.retrain.state import GO_ON, State, Teller, folder
from train.retrain.verdict import Verdict, judged
from train.run import Run, begin_run, default_name, read_run, resume_run, runs_folder
from train.session import train_and_choose
from train.watch import Step

Report = Callable[[int, int, str, float | None], None]
"""Told how much of how much is done, what stands beside it, and the seconds left."""


def begin(plan: Plan, name: str | None, prompts: Mapping[SetName, Path], say: Say) -> State:
    """Write down what is to be done. The kept dialogues are copied: more may be kept while it works. `prompts` are sets to compare
    on, in place of those that come along; by the answers to its `dev` the checkpoint is chosen too.

    Raises what `train.run.begin_run` raises, and BadData for prompts that cannot be read.
    """
    prompt_sets(prompts, say)
    name = default_name("retrained") if name is None else name
    files = [_copy(file, name) if file == kept_file() else file for file in plan.files]
    try:
        run = begin_run(
            name, plan.current.base, plan.recipe, data_files(files), prompts.get("dev"), say, replaces=plan.current.name
        )
    except BaseException:
        _forget_copy(name)
        raise
    return State(
        run=run.name,
        against=plan.current.name,
        counts=plan.news.counts,
        began=release.now(),
        prompts={name: str(file.absolute()) for name, file in prompts.items()},
    )


def _copy(file: Path, name: str) -> Path:
    if not release.NAME.fullmatch(name):
        return file  # which `begin_run` refuses
    copy = folder() / name / file.name
    write_records(copy, read_dialogues([file]))
    return copy


def _forget_copy(name: str) -> None:
    """What people said is kept in one place only, so that deleting it there deletes it."""
    if release.NAME.fullmatch(name):
        shutil.rmtree(folder() / name, ignore_errors=True)


def forget(state: State) -> None:
    """Remove what an interrupted retraining has done so far."""
    _forget_copy(state.run)
    if not (release.folder() / state.run).exists():
        shutil.rmtree(runs_folder() / state.run, ignore_errors=True)


def _to_go_on(state: State, changes: Sequence[str]) -> Run | None:
    """Its run, if there is something left to train. Raises what `resume_run` raises, and ThousandError when a dialogue that it
    was begun with is not kept any more."""
    if (release.folder() / state.run / release.RECORD).exists():
        return None
    copy = folder() / state.run / kept_file().name
    if copy.exists():
        kept = {fingerprint(dialogue) for dialogue in read_dialogues([kept_file()])} if kept_file().exists() else set()
        gone = [dialogue for dialogue in read_dialogues([copy]) if fingerprint(dialogue) not in kept]
        if gone:
            raise ThousandError(
                f"{len(gone)} of the dialogues that {state.run} was begun with were deleted or changed since, so it does not go on; "
                f"begin anew with: {GO_ON} --fresh"
            )
    return resume_run(state.run, changes)


@contextmanager
def _told(teller: Teller) -> Iterator[None]:
    """However it ends, the state says so."""
    try:
        yield
    except KeyboardInterrupt:
        said = f"Stopped; what is done is saved. Go on with: {GO_ON}"
        teller.set(ended="stopped", said=said)
        raise ThousandError(said) from None
    except ThousandError as error:
        teller.set(ended="stopped" if isinstance(error, Interrupted) else "failed", said=str(error))
        raise
    except Exception as error:
        teller.set(ended="failed", said=f"It failed: {type(error).__name__}: {error}")
        raise


def work(state: State, changes: Sequence[str], say: Say, report: Report) -> Verdict:
    """Train what is left to train, compare, and say which release should chat.

    Raises ThousandError for whatever stops it, with the command that goes on; the state on the disk says the same.
    """
    teller = Teller(state.model_copy(update={"ended": None, "said": "", "done": 0, "total": 0, "seconds_left": None}))

    def tell(line: str) -> None:
        say(line)
        teller.set(said=line)

    def far(done: int, total: int, beside: str, seconds_left: float | None) -> None:
        report(done, total, beside, seconds_left)
        teller.far(done, total, seconds_left)

    with _told(teller):
        run = _to_go_on(state, changes)
        around = 0.0 if run is None else _train(run, teller, tell, far)
        _forget_copy(state.run)
        teller.set(phase="comparing", done=0, total=0, seconds_left=None, said="Both releases answer the same prompts")
        began = time.monotonic()
        prompts = {name: Path(file) for name, file in state.prompts.items()}
        longest = read_run(state.run).recipe.dev_tokens
        verdict = judged(state.run, release.current(), prompts, longest, tell, far)
        write_took(Took(dev=around, comparing=time.monotonic() - began))
        teller.set(phase="done", said=verdict.sentence, done=0, total=0, seconds_left=None)
    return verdict


def _train(run: Run, teller: Teller, say: Say, far: Report) -> float:
    """Train, choose, and make the candidate; returns the seconds that went to other things than training steps."""
    began = time.monotonic()

    def report(step: Step) -> None:
        far(step.step, step.steps, f"loss {step.loss:.3f}  {step.tokens_per_second:.0f} tokens/s", step.seconds_left)

    chosen = train_and_choose(run, report, say)
    if chosen is None:
        raise ThousandError("Retraining works in one process; leave out the launcher, or use: thousand train")
    make_release(chosen)
    return max(0.0, time.monotonic() - began - chosen.fitted.measured["seconds"])
