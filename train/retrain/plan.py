"""What a retraining would do, told before it begins."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from assistant import base_model, release
from assistant.base_model import Say, quiet
from assistant.dialogue import Dialogue, read_dialogues
from assistant.errors import ThousandError
from assistant.release import Release
from train.recipe import Recipe, changed
from train.retrain.estimate import Estimate, Speed, estimate
from train.retrain.news import News, news_since, training_files


@dataclass(frozen=True)
class Plan:
    """A retraining that has not begun."""

    current: Release
    """The release that the new one is to replace; its base and its recipe are used again."""
    recipe: Recipe
    files: list[Path]
    dialogues: list[Dialogue]
    news: News
    estimate: Estimate


def make_plan(data: Sequence[Path] | None = None, changes: Sequence[str] = (), say: Say = quiet) -> Plan:
    """What would be done now; `data` are other files than those of the current release, `changes` other numbers of its recipe.

    Raises BadData with every bad line of every file, ThousandError when there is no current release, or its recipe or one
    of its files cannot be had.
    """
    name = release.current(say)
    record = release.read(release.path(name))
    recipe = changed(_recipe_of(record), changes)
    files = training_files(name, data)
    dialogues = read_dialogues(files)
    return Plan(record, recipe, files, dialogues, news_since(name, dialogues), estimate(record, recipe, dialogues))


def timed(plan: Plan, say: Say = quiet) -> Plan:
    """The plan with its time as a short trial tells it, where nothing was measured on this machine yet."""
    if plan.estimate.speed is not None and plan.estimate.speed.here:
        return plan
    from train.probe import tokens_per_second

    say("Trying how fast this machine trains")
    rate = tokens_per_second(base_model.resolve(plan.current.base, say), plan.recipe, plan.dialogues, say)
    return replace(plan, estimate=plan.estimate._replace(speed=Speed(rate, "a trial just now", here=True)))


def _recipe_of(record: Release) -> Recipe:
    """The number format is chosen anew: the release may have been trained on another machine."""
    try:
        recipe = Recipe.model_validate(record.recipe)
    except ValidationError:
        raise ThousandError(
            f"The recipe of {record.name} is of another version of Thousand; train a release with: thousand train"
        ) from None
    return recipe.model_copy(update={"precision": "auto"})
