"""Which of llama.cpp's places (its slots) an answer is made in.

A place holds what was read of a conversation, so that its next turn reads only what is new. Answers in places that stand
side by side are computed in one pass over the model; those with a gap between them in one pass after the other, twice as
slow (docs/log.md). llama.cpp's own choice looks at neither: a short question that shares its first tokens with a long
conversation may take that one's place.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two prompts begin with alike."""
    for count, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return count
    return min(len(one), len(other))


@dataclass
class Place:
    """The place of one answer."""

    prompt: Sequence[int]
    number: int | None
    """None while llama.cpp is to choose it."""


class Places:
    """What is known of all places. While none is free, and until all who wait have one, llama.cpp chooses: it lets in who has
    waited longest, and it has a place free again whose answer a slow reader has not read to the end."""

    def __init__(self, count: int) -> None:
        self._held: list[Sequence[int]] = [()] * count
        """The prompt that was read last in each."""
        self._under_way = [0] * count
        """Answers in each whose end has not been read."""
        self._worth = [(0, 0)] * count
        """What it would cost to read each again, in tokens, more for those used since others were given up (GreedyDual: Young
        1994; Cao and Irani 1997, section 4); of equals, those used last."""
        self._floor = 0
        self._uses = 0
        self._queued = 0

    @contextmanager
    def place(self, prompt: Sequence[int]) -> Iterator[Place]:
        """The place of an answer to `prompt`, until the answer has ended."""
        place = Place(prompt, None)
        self._queued += 1
        chosen = self._choose(prompt)
        if chosen is not None:
            self.found(place, chosen)
        try:
            yield place
        finally:
            if place.number is None:
                self._queued -= 1
            else:
                self._under_way[place.number] -= 1

    def found(self, place: Place, number: int) -> None:
        """It is known where the answer is made."""
        if place.number is None:
            self._queued -= 1
            if self._gain(number, place.prompt) < 0:
                self._floor = max(self._floor, self._worth[number][0])
            self._uses += 1
            self._worth[number] = self._floor + len(place.prompt), self._uses
            self._held[number] = place.prompt
            self._under_way[number] += 1
            place.number = number

    def _gain(self, place: int, prompt: Sequence[int]) -> int:
        """How many tokens of the prompt are known there, less those that would be lost of what is held."""
        return 2 * shared(prompt, self._held[place]) - len(self._held[place])

    def _choose(self, prompt: Sequence[int]) -> int | None:
        """The place that holds the conversation; else, among the half of the free places that are worth least, one beside a
        place that computes."""
        free = [place for place, count in enumerate(self._under_way) if not count]
        if not free or self._queued > 1:  # this one waits as well, and may not overtake the others
            return None
        best = max(free, key=lambda place: self._gain(place, prompt))
        if self._gain(best, prompt) > 0:
            return best
        free.sort(key=self._worth.__getitem__)
        poorer = free[: (len(free) + 1) // 2]
        return next((place for place in poorer if self._computes(place - 1) or self._computes(place + 1)), poorer[0])

    def _computes(self, place: int) -> bool:
        return 0 <= place < len(self._under_way) and self._under_way[place] > 0
