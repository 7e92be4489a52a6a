"""A blind vote on a comparison: a few of its pairs of answers to dev prompts, as any preference is voted on."""

from evaluation.compare import Comparison
from evaluation.voting.ballot import Ballot
from evaluation.voting.poll import Poll
from evaluation.voting.scale import SOMEBODY
from evaluation.voting.sheet import sheet_of

SIZE = 20
"""Pairs: about a quarter of an hour."""


def blind_ballot(comparison: Comparison, voter: str = SOMEBODY) -> Ballot:
    """The pairs of a comparison. What is voted on them counts in `thousand evaluate prefer` of the same two as well, and what is
    voted there counts here. Raises ThousandError when there is nothing to vote on."""
    dev = comparison.set("dev")
    answered = [(comparison.candidate.asked, dev.candidate), (comparison.current.asked, dev.current)]
    return Ballot(
        Poll.of(sheet_of("preference", "dev", dev.file, dev.sha256, dev.left_out, dev.scripts, answered)), voter, SIZE
    )
