"""The part of the retraining page on which a person judges pairs of answers, without knowing whose they are, with one key each."""

from typing import Any

import gradio

from assistant.errors import ThousandError
from evaluation.blind import Sample, Vote
from evaluation.compare import Comparison
from serve.access import Access
from serve.ui import retrain_view as view
from serve.ui.operator import NOT_YOURS, may_operate
from serve.ui.parts import Part, Updates
from serve.ui.retrain_result import candidate

KEYS = """
if (!document.votes) {
  document.votes = true;
  document.addEventListener('keydown', (event) => {
    if (event.target.closest('input, textarea, select, [contenteditable]') || event.ctrlKey || event.metaKey || event.altKey) return;
    const button = {1: 'vote-a', 2: 'vote-none', 3: 'vote-b', 0: 'vote-back'}[event.key];
    const found = button && document.getElementById(button);
    if (found && !event.repeat) found.click();
  });
}
"""
ABOUT = """### Which answers do you like better?

The same prompt, answered by both; which is which is not shown before the last one. Read both, then click, or press **1** for A,
**2** for no difference, **3** for B, and **0** to take the last one back. What you say is for you: it blocks nothing."""


def sample_of(name: str) -> Sample | None:
    """The pairs of a candidate; None when there is nothing to judge."""
    try:
        return Sample.open(Comparison.read(name))
    except ThousandError:
        return None


def build_vote(access: Access) -> Part:
    """Adds the pairs and their buttons."""
    with gradio.Column(visible=False) as section:
        gradio.Markdown(ABOUT)
        gradio.HTML("", js_on_load=KEYS, padding=False)
        pair = gradio.HTML(elem_id="pair", padding=False)
        place = gradio.State(0)
        with gradio.Row() as buttons:
            better_a = gradio.Button("A is better (1)", elem_id="vote-a")
            neither = gradio.Button("No difference (2)", elem_id="vote-none")
            better_b = gradio.Button("B is better (3)", elem_id="vote-b")
        back = gradio.Button("Take the last one back (0)", elem_id="vote-back", size="sm")

    outputs: list[Any] = [section, pair, place, buttons, back]

    def look() -> Updates:
        made = candidate()
        sample = sample_of(made.name) if made else None
        if sample is None:
            return {section: gradio.Column(visible=False)}
        at = sample.next
        result = sample.result()
        told = "" if at is not None or result is None else view.preference(result, sample.candidate, sample.current)
        return {
            section: gradio.Column(visible=True),
            pair: view.html(view.paragraph(told)) if at is None else view.pair(sample.pairs[at], at, len(sample.pairs)),
            place: at,
            buttons: gradio.Row(visible=at is not None),
            back: gradio.Button(visible=at != 0),
        }

    def voted(vote: Vote | None, at: int | None, request: gradio.Request) -> Updates:
        """`at` is the pair that the person saw: a key that is pressed twice judges it twice, not the next one."""
        made = candidate() if may_operate(access, request) else None
        sample = sample_of(made.name) if made else None
        if sample is None:
            gradio.Warning(
                NOT_YOURS if not may_operate(access, request) else "There is nothing to judge.", title="Not done"
            )
            return {}
        if vote is not None and at is not None:
            sample.vote(at, vote)
        elif vote is None:
            last = (len(sample.pairs) if at is None else at) - 1
            if last >= 0:
                sample.vote(last, None)
        return look()

    def on(button: gradio.Button, vote: Vote | None) -> None:
        def handler(at: int | None, request: gradio.Request) -> Updates:
            return voted(vote, at, request)

        button.click(handler, inputs=place, outputs=outputs, api_visibility="private", show_progress="hidden")

    on(better_a, "A")
    on(neither, "no difference")
    on(better_b, "B")
    on(back, None)
    return Part(outputs=outputs, look=lambda: {}, look_closely=look)
