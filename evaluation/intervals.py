"""Means with their intervals, and differences of two systems over the same prompts."""

import random
from collections.abc import Sequence
from statistics import fmean

from pydantic import BaseModel, ConfigDict

Column = Sequence[float | None]
"""One measure's value for each prompt of a set, in the set's order; None where it has none."""


def bootstrap_interval(values: Sequence[float], draws: int = 2000) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean (percentiles of means of resamples; fixed seed)."""
    source = random.Random(0)  # noqa: S311 (no secret)
    means = sorted(sum(source.choices(values, k=len(values))) / len(values) for _ in range(draws))
    return means[int(draws * 0.025)], means[int(draws * 0.975)]


class Interval(BaseModel):
    """A mean with its 95 % bootstrap interval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """The mean of at least one value, rounded to four digits."""
        low, high = bootstrap_interval(values)
        return cls(mean=round(fmean(values), 4), low=round(low, 4), high=round(high, 4))

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def present(column: Column) -> list[float]:
    """The values that are there."""
    return [value for value in column if value is not None]


def pairs(first: Column, second: Column) -> list[tuple[float, float]]:
    """The values of two columns over the prompts for which both have one."""
    return [(one, two) for one, two in zip(first, second, strict=True) if one is not None and two is not None]


def paired(first: Column, second: Column) -> Interval | None:
    """The mean of the first less the second over the prompts for which both have a value, None when there is none.

    It is much narrower than two intervals apart from each other, as answers to one prompt differ less than prompts do.
    """
    differences = [one - two for one, two in pairs(first, second)]
    return Interval.of(differences) if differences else None
