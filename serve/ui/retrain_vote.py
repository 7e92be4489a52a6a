"""The part of the retraining page on which a person votes on pairs of answers, without knowing whose they are."""

from assistant.errors import ThousandError
from evaluation.compare import Comparison
from evaluation.voting.ballot import Ballot
from evaluation.voting.blind import blind_ballot
from evaluation.voting.result import result
from evaluation.voting.scale import SCALES
from evaluation.voting.words import sentence
from serve.access import Access
from serve.ui import retrain_view as view
from serve.ui.operator import NOT_YOURS, may_operate
from serve.ui.parts import Part
from serve.ui.retrain_result import candidate
from serve.ui.vote import build_vote

ABOUT = """### Which answers do you like better?

The same prompt, answered by both; which is which is not shown before the last one. Read both, then click, or press **1** for A,
**2** for neither, **3** for B, and **0** to take the last one back. What you say is for you: it blocks nothing."""


def ballot() -> Ballot | None:
    """The pairs of the candidate; None when there is nothing to vote on."""
    made = candidate()
    try:
        return None if made is None else blind_ballot(Comparison.read(made.name))
    except ThousandError:
        return None


def _over(voted: Ballot) -> str:
    found = result(voted.poll)
    return view.html(*[view.paragraph(sentence(found, tally)) for tally in found.tallies if tally.prompts])


def build_retrain_vote(access: Access) -> Part:
    """Adds the pairs and their buttons."""
    return build_vote(
        SCALES["preference"],
        ballot,
        lambda request: may_operate(access, request),
        about=ABOUT,
        over=_over,
        refused=NOT_YOURS,
    )
