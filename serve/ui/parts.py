"""A part of a page that tells how things stand, and that is told when something was done."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Updates = dict[Any, Any]
"""A component to what it shows now."""


@dataclass(frozen=True)
class Part:
    """Components with what they show."""

    outputs: list[Any]
    look: Callable[[], Updates]
    """Costs nothing much, and is asked again and again."""
    look_closely: Callable[[], Updates] = dict
    """May take seconds; asked when the page is loaded and when something was done."""
    events: list[Any] = field(default_factory=list)
    """After which everything is looked at anew."""
