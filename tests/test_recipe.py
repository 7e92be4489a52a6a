"""How often an epoch shows a dialogue."""

import pytest

from assistant.dialogue import Dialogue, Message
from assistant.provenance import Provenance
from train.recipe import changed, preset

TURN = (Message(role="user", content="why"), Message(role="assistant", content="so"))


@pytest.mark.parametrize(
    ("recipe", "kept", "answers", "times"),
    [("laptop", False, 1, 1), ("laptop", True, 1, 8), ("laptop", True, 2, 24), ("lima", True, 1, 1)],
)
def test_kept_dialogues_and_those_of_several_turns_are_shown_more_often_where_the_recipe_says_so(
    recipe: str, kept: bool, answers: int, times: int
) -> None:
    dialogue = Dialogue(messages=TURN * answers, provenance=Provenance() if kept else None)
    assert changed(preset(recipe), ["multi_turn_repeats=3"]).repeats(dialogue) == times
