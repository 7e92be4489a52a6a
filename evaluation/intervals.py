"""Means with their intervals, and differences of two systems over the same prompts."""

import random
from collections.abc import Sequence
from statistics import fmean

from pydantic import BaseModel, ConfigDict

Z = 1.96
GRADUAL = frozenset({"repeated_4grams", "score", "words"})
"""Measures of an answer that are no yes or no, even where all of them are 0 or 1."""
HOW = "95 % intervals: after Wilson where each prompt is a yes or no, else by bootstrap over the prompts"

Column = Sequence[float | None]
"""One measure's value for each prompt of a set, in the set's order; None where it has none."""


def bootstrap_interval(values: Sequence[float], draws: int = 2000) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean (percentiles of means of resamples; fixed seed)."""
    source = random.Random(0)  # noqa: S311 (no secret)
    means = sorted(sum(source.choices(values, k=len(values))) / len(values) for _ in range(draws))
    return means[int(draws * 0.025)], means[int(draws * 0.975)]


def wilson_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a share after Wilson (1927), of values from 0 to 1.

    Unlike a bootstrap's it does not shrink to a point when all values agree, and holds for few. For values between 0 and 1 it is
    wider than need be, never narrower: none vary more than zeros and ones of the same mean.
    """
    n, mean = len(values), fmean(values)
    centre = (mean + Z**2 / (2 * n)) / (1 + Z**2 / n)
    reach = Z / (1 + Z**2 / n) * (mean * (1 - mean) / n + Z**2 / (4 * n**2)) ** 0.5
    return max(0.0, centre - reach), min(1.0, centre + reach)


class Interval(BaseModel):
    """A mean with its 95 % interval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """The mean of at least one value by bootstrap, rounded to four digits."""
        return cls._rounded(values, bootstrap_interval(values))

    @classmethod
    def of_share(cls, values: Sequence[float]) -> "Interval":
        """The mean of at least one value from 0 to 1 after Wilson."""
        return cls._rounded(values, wilson_interval(values))

    @classmethod
    def of_measure(cls, name: str, values: Sequence[float]) -> "Interval":
        """The mean of a measure over prompts: after Wilson where each is a yes or no, else by bootstrap."""
        yes_or_no = name not in GRADUAL and all(value in (0, 1) for value in values)
        return cls.of_share(values) if yes_or_no else cls.of(values)

    @classmethod
    def _rounded(cls, values: Sequence[float], interval: tuple[float, float]) -> "Interval":
        low, high = interval
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
