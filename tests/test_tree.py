"""Conversations as trees: what the chat page does to them."""

import pytest

from assistant.dialogue import Dialogue
from serve.ui import bringing, tree
from serve.ui.tree import Conversation


def answered(conversation: Conversation, text: str) -> Conversation:
    return tree.add(
        conversation, {"id": tree.new_id(), "parent": conversation["leaf"], "role": "assistant", "content": text}
    )


def said(conversation: Conversation) -> list[str]:
    return [message.content for message in tree.prompt(conversation)]


@pytest.fixture
def talk() -> Conversation:
    one = answered(tree.ask(tree.new(), "one", ""), "first")
    return answered(tree.ask(one, "two", ""), "second")


def test_an_edit_and_a_retry_are_branches_and_every_branch_can_be_gone_back_to(talk: Conversation) -> None:
    first, answer = tree.branch(talk)[0]["id"], tree.branch(talk)[-1]["id"]
    retried = answered(tree.again(talk, answer), "other")
    assert said(retried) == ["one", "first", "two", "other"]
    edited = answered(tree.ask(retried, "uno", "", instead_of=first), "primo")
    assert said(edited) == ["uno", "primo"]
    assert len(tree.versions(edited, first)) == 2
    back = tree.switch(edited, tree.branch(edited)[0]["id"], -1)
    assert said(back) == ["one", "first", "two", "other"], "the newest of what followed"
    assert said(tree.switch(back, answer, 1)) == ["one", "first", "two", "other"]
    assert said(tree.switch(back, tree.branch(back)[-1]["id"], 1)) == ["one", "first", "two", "second"], (
        "round and round"
    )
    assert said(talk) == ["one", "first", "two", "second"], "what was given is as it was"


def test_undo_takes_back_a_question_and_loses_none(talk: Conversation) -> None:
    undone, text = tree.undo(talk)
    assert (said(undone), text) == (["one", "first"], "two")
    again = tree.ask(undone, "zwei", "")
    assert len(tree.versions(again, again["leaf"] or "")) == 2
    assert tree.undo(tree.new())[1] == ""


def test_a_question_without_an_answer_gives_way_to_the_next_one(talk: Conversation) -> None:
    assert said(tree.ask(tree.ask(talk, "three", ""), "four", "")) == ["one", "first", "two", "second", "four"]


def test_another_system_prompt_is_a_branch_of_the_whole_conversation(talk: Conversation) -> None:
    told = tree.ask(talk, "three", "Be brief.")
    assert said(told) == ["Be brief.", "one", "first", "two", "second", "three"]
    assert len(tree.versions(told, tree.branch(told)[1]["id"])) == 2
    assert said(tree.switch(told, tree.branch(told)[1]["id"], -1)) == ["one", "first", "two", "second"]
    assert said(tree.ask(told, "four", "")) == ["one", "first", "two", "second", "four"]


def test_what_comes_from_a_browser_is_no_ring_and_lacks_nothing(talk: Conversation) -> None:
    assert tree.read(talk) == talk
    first, second = list(talk["messages"])[:2]
    ring = tree.about(talk, first, parent=second)
    lacking = {**talk, "messages": {first: talk["messages"][first]}}
    for broken in (ring, lacking, {**talk, "more": 1}, [], "x", tree.about(talk, first, content=" ")):
        with pytest.raises(ValueError):
            tree.read(broken)


def test_a_dialogue_comes_back_as_it_went(talk: Conversation) -> None:
    line = Dialogue.model_validate({"id": "mine-1", "messages": tree.prompt(talk)}).model_dump_json(exclude_none=True)
    (found,) = bringing.read("x.jsonl", line)
    assert (said(found), found.get("name")) == (said(talk), "mine-1")
