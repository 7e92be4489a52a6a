"""One person's way through a poll: blind, one item after the other, and on from there whenever the person comes back."""

from dataclasses import dataclass

from assistant.errors import ThousandError
from assistant.release import now
from evaluation.voting.poll import Poll, Vote
from evaluation.voting.scale import SOMEBODY, Scale
from evaluation.voting.sheet import Item, digest

LONGEST_NAME = 60


def check_name(voter: str) -> None:
    """Raises ThousandError for a name of a person that cannot be shown."""
    if not voter.strip() or len(voter) > LONGEST_NAME or not voter.isprintable():
        raise ThousandError(f"{voter!a} is no name; give the person who votes one of 1 to {LONGEST_NAME} letters.")


@dataclass(frozen=True)
class Shown:
    """One item, as it is shown: nothing in it tells whose answer is whose."""

    system: str | None
    user: str
    answers: tuple[str, ...]


class Ballot:
    """The items that one person votes on, and the votes so far."""

    def __init__(self, poll: Poll, voter: str = SOMEBODY, most: int | None = None) -> None:
        self.poll, self.voter, self._items = poll, voter, poll.items(most)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def scale(self) -> Scale:
        return self.poll.scale

    def votes(self) -> list[str | None]:
        """What is voted on each item, by whichever window."""
        found = {vote.key: vote.vote for vote in self.poll.votes() if vote.voter == self.voter}
        return [found.get(item.key) for item in self._items]

    def next(self) -> int | None:
        """The place (from 0) of the first item without a vote; None when all have one."""
        votes = self.votes()
        return votes.index(None) if None in votes else None

    def _swapped(self, item: Item) -> bool:
        """Which side is shown as A: as if by lot for each pair and person, and always alike, so that going back shows the same."""
        return len(item.answers) == 2 and int(digest(item.key, self.voter), 16) % 2 == 1

    def shown(self, place: int) -> Shown:
        """The item at a place."""
        item = self._items[place]
        return Shown(item.system, item.user, item.answers[::-1] if self._swapped(item) else item.answers)

    def vote(self, place: int, word: str | None) -> None:
        """Write down the vote on the item at a place, one of the scale's words, or take it back."""
        assert word is None or word in self.scale.words
        item = self._items[place]
        self.poll.add(
            Vote(
                key=item.key,
                prompt=item.prompt,
                voter=self.voter,
                vote=word,
                swapped=self._swapped(item),
                when=now(),
            )
        )
