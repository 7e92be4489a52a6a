"""The retraining page: what is new, the run with its curves, the two releases side by side, and which of them chats."""

from typing import Any

import gradio

from serve.access import Access
from serve.ui import retrain_view as view
from serve.ui.operator import NOT_YOURS, may_operate
from serve.ui.parts import Part
from serve.ui.retrain_result import build_result
from serve.ui.retrain_run import build_run
from serve.ui.retrain_vote import build_retrain_vote
from serve.ui.vote import CSS

EVERY = 2.0
"""Seconds between two looks at a retraining that is under way."""
ABOUT = """# Retrain

The assistant is trained anew, from the base model, on all dialogues: those that it knows and those that were kept or corrected since.
Then the new release and the current one answer the same prompts, and you decide which of them chats. Until then nobody who chats
notices anything, and you may close this page meanwhile."""
LOOKING = "Looking at what is new since the current release. The first time this takes some seconds."


def build_retrain(access: Access) -> None:
    """Adds the page to the Blocks that it is called in. Each handler asks who is there, since what is hidden can still be called."""
    gradio.HTML(f"<style>{view.CSS}{CSS}</style>", padding=False)
    gradio.Markdown(ABOUT)
    refused = gradio.Markdown(NOT_YOURS, visible=False)
    looking = gradio.Markdown(LOOKING)
    timer = gradio.Timer(EVERY, active=False)
    parts: list[Part] = [build_run(access, timer), build_result(access), build_retrain_vote(access)]
    outputs = [refused, looking, *(output for part in parts for output in part.outputs)]

    def look(request: gradio.Request) -> dict[Any, Any]:
        """How everything stands."""
        if not may_operate(access, request):
            return {refused: gradio.Markdown(visible=True), looking: gradio.Markdown(visible=False)}
        return {output: update for part in parts for output, update in part.look().items()}

    def once(request: gradio.Request) -> dict[Any, Any]:
        """The same with what takes seconds to find out."""
        found = look(request)
        if may_operate(access, request):
            for part in parts:
                found |= part.look_closely()
            found[looking] = gradio.Markdown(visible=False)
        return found

    quietly: dict[str, Any] = {"outputs": outputs, "api_visibility": "private", "show_progress": "hidden"}
    gradio.on(None, look, **quietly).then(once, **quietly)
    timer.tick(look, **quietly)
    for part in parts:
        for event in part.events:
            event.then(once, **quietly)
