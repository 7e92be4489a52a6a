"""The part of the retraining page that begins, stops and goes on, and shows how far it is."""

from typing import Any

import gradio
import pandas

from assistant.errors import ThousandError
from serve.access import Access
from serve.ui import retrain_view as view
from serve.ui.operator import attempt
from serve.ui.parts import Part, Updates
from train.retrain import background
from train.retrain.curves import curves_of
from train.retrain.plan import make_plan
from train.retrain.state import Standing, ask_to_stop, standing

ROOM = 0.02
"""Above and below the scores in their picture; about what another seed changes."""


def _may_begin(found: Standing) -> bool:
    return not found.running and not found.can_go_on


def build_run(access: Access, timer: gradio.Timer) -> Part:
    """Adds what is new, the buttons, the progress and the curves; `timer` runs while a retraining does."""
    news = gradio.HTML(elem_id="news", padding=False)
    now = gradio.HTML(elem_id="now", padding=False)
    with gradio.Row():
        begin = gradio.Button("Begin retraining", variant="primary", visible=False)
        go_on = gradio.Button("Go on with it", variant="primary", visible=False)
        anew = gradio.Button("Begin anew instead", visible=False)
        stop = gradio.Button("Stop, and go on later", variant="stop", visible=False)
    with gradio.Row(visible=False, elem_id="curves") as curves:
        axes = {"x": "step", "x_title": "step", "x_axis_format": ".0f", "height": 240}
        losses = gradio.LinePlot(y="loss", color="of", title="Loss: lower is better", y_title="loss", **axes)
        # Few of them, and a line through one point is not seen.
        scores = gradio.ScatterPlot(y="score", title="Answers: higher is better", y_title="dev score", **axes)

    def look() -> Updates:
        found = standing()
        return {
            now: view.now(found),
            begin: gradio.Button(visible=_may_begin(found), interactive=True),
            go_on: gradio.Button(visible=found.can_go_on, interactive=True),
            anew: gradio.Button(visible=found.can_go_on, interactive=True),
            stop: gradio.Button(visible=found.running and not found.stopping),
            timer: gradio.Timer(active=found.running),
            **drawn(found.state.run if found.state else None),
        }

    def drawn(run: str | None) -> Updates:
        points = curves_of(run) if run else None
        if points is None or not points.losses:
            return {curves: gradio.Row(visible=False)}
        shown: Updates = {
            curves: gradio.Row(visible=True),
            losses: pandas.DataFrame(points.losses, columns=["step", "loss", "of"]),
            scores: gradio.ScatterPlot(visible=bool(points.scores)),
        }
        if points.scores:
            known = [score for _, score in points.scores]
            limits = [min(known) - ROOM, max(known) + ROOM]  # else the highest and the lowest are cut in half
            table = pandas.DataFrame(points.scores, columns=["step", "score"])
            shown[scores] = gradio.ScatterPlot(table, y_lim=limits, visible=True)
        return shown

    def look_closely() -> Updates:
        found = standing()
        if found.running:
            return {news: ""}
        try:
            plan = make_plan()
        except ThousandError as error:
            return {news: view.html(view.paragraph(str(error))), begin: gradio.Button(visible=False)}
        return {
            news: view.news(plan),
            begin: gradio.Button(visible=_may_begin(found) and plan.news.any, interactive=True),
        }

    def at_once() -> Updates:
        """A process takes seconds to begin, and a click must show something."""
        return {now: view.beginning(), **dict.fromkeys((begin, go_on, anew), gradio.Button(interactive=False))}

    def on_begin(request: gradio.Request) -> None:
        attempt(access, request, started)

    def on_anew(request: gradio.Request) -> None:
        attempt(access, request, lambda: started("--fresh"))

    def started(*options: str) -> str:
        background.start(*options)
        return "The retraining has begun. It goes on when you close this page."

    def on_stop(request: gradio.Request) -> None:
        attempt(access, request, lambda: f"{ask_to_stop().run} saves what is done, and stops.")

    private: dict[str, Any] = {"api_visibility": "private"}
    beginning = {**private, "outputs": [now, begin, go_on, anew], "show_progress": "hidden"}
    return Part(
        outputs=[news, now, begin, go_on, anew, stop, timer, curves, losses, scores],
        look=look,
        look_closely=look_closely,
        events=[
            begin.click(at_once, **beginning).then(on_begin, **private),
            go_on.click(at_once, **beginning).then(on_begin, **private),
            anew.click(at_once, **beginning).then(on_anew, **private),
            stop.click(on_stop, **private),
        ],
    )
