"""A blind vote on a comparison: a few of its pairs of answers to dev prompts, as any preference is voted on."""

from evaluation.compare import Comparison, Side
from evaluation.voting.ballot import Ballot
from evaluation.voting.poll import Poll
from evaluation.voting.scale import SOMEBODY
from evaluation.voting.sheet import Asked, sheet_of

SIZE = 20
"""Pairs: about a quarter of an hour."""


def blind_ballot(comparison: Comparison, voter: str = SOMEBODY) -> Ballot:
    """The pairs of a comparison. What is voted on them counts in `thousand evaluate prefer` of the same two as well, and the other
    way round. Raises ThousandError when there is nothing to vote on."""

    def asked(side: Side) -> Asked:
        return Asked(name=side.name, identity=side.identity, sampling=side.sampling)

    dev = comparison.set("dev")
    answered = [(asked(comparison.candidate), dev.candidate), (asked(comparison.current), dev.current)]
    return Ballot(
        Poll.of(sheet_of("preference", "dev", dev.file, dev.sha256, dev.left_out, dev.scripts, answered)), voter, SIZE
    )
