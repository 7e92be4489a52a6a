"""The part of the retraining page that shows both releases side by side and decides which of them chats."""

from typing import Any

import gradio

from assistant import release
from assistant.errors import ThousandError
from assistant.release import Release
from evaluation.compare import Comparison
from serve.access import Access
from serve.ui import retrain_view as view
from serve.ui.operator import attempt
from serve.ui.parts import Part, Updates
from train.retrain.state import keep_current, standing


def candidate() -> Release | None:
    """The release that the last retraining left, if it is compared."""
    found = standing()
    if found.state is None or found.state.phase != "done":
        return None
    try:
        return release.read(release.path(found.state.run))
    except ThousandError:  # it was removed
        return None


def build_result(access: Access) -> Part:
    """Adds the comparison, the verdict, and the buttons that promote, keep and go back."""
    with gradio.Column(visible=False) as result:
        title = gradio.Markdown()
        table = gradio.HTML(elem_id="comparison", padding=False)
        verdict = gradio.HTML(elem_id="verdict", padding=False)
        with gradio.Row():
            promote = gradio.Button(variant="primary", visible=False)
            keep = gradio.Button(visible=False)
        why = gradio.Textbox(
            label="Why it should chat all the same",
            info="To promote it in spite of that, say why; it is kept in the release's record.",
            max_length=500,
            visible=False,
        )
        override = gradio.Button("Promote all the same", variant="stop", visible=False)
    back = gradio.Button(visible=False)

    def look() -> Updates:
        made, promoted = candidate(), release.history()
        earlier = promoted[-2] if len(promoted) > 1 else None
        shown: Updates = {
            result: gradio.Column(visible=made is not None),
            back: gradio.Button(f"Go back to {earlier}", visible=earlier is not None),
        }
        return shown if made is None else shown | of(made, promoted[-1])

    def of(made: Release, current: str) -> Updates:
        guard = made.guard
        assert guard is not None  # what a retraining leaves has one
        found = standing().state
        open_ = made.name != current and found is not None and not found.kept
        blocks = guard.blocks
        return {
            title: f"## {made.name} beside {guard.against}",
            table: compared(made.name),
            verdict: view.verdict(made.name, guard, current),
            promote: gradio.Button(f"Promote {made.name}", visible=open_ and not blocks),
            keep: gradio.Button(f"Keep {current}", visible=open_),
            why: gradio.Textbox(visible=open_ and bool(blocks)),
            override: gradio.Button(visible=open_ and bool(blocks)),
        }

    def compared(name: str) -> str:
        try:
            return view.comparison(Comparison.read(name))
        except ThousandError as error:
            return view.html(view.paragraph(str(error)))

    def promoted(request: gradio.Request, reason: str | None = None) -> str:
        made = candidate()
        if made is None:
            raise ThousandError("There is no new release to promote.")
        release.promote(made.name, reason, by=request.username if access.keys.asked else None)
        return f"{made.name} chats now, also in conversations that are under way, from their next answer on."

    def on_promote(request: gradio.Request) -> None:
        attempt(access, request, lambda: promoted(request))

    def on_override(reason: str, request: gradio.Request) -> None:
        attempt(access, request, lambda: promoted(request, reason))

    def on_keep(request: gradio.Request) -> None:
        attempt(access, request, kept)

    def kept() -> str:
        keep_current()
        return f"{release.current()} goes on chatting. The new release stays in the list of releases."

    def on_back(request: gradio.Request) -> None:
        attempt(access, request, lambda: f"{release.rollback()} chats again.")

    private: dict[str, Any] = {"api_visibility": "private"}
    return Part(
        outputs=[result, title, table, verdict, promote, keep, why, override, back],
        look=look,
        events=[
            promote.click(on_promote, **private),
            override.click(on_override, inputs=why, **private),
            keep.click(on_keep, **private),
            back.click(on_back, **private),
        ],
    )
