"""What the retraining page says, as HTML: every text that is not ours is escaped."""

from collections.abc import Iterable
from html import escape

from assistant.console import minutes
from assistant.dialogue import Dialogue
from assistant.release import Guard
from evaluation.compare import Comparison, Measure
from evaluation.sets import SetName
from train.retrain.plan import Plan
from train.retrain.state import Standing

SHOWN = 30
"""New dialogues that are shown."""
MEASURES: dict[tuple[SetName, str], tuple[str, bool]] = {
    ("dev", "score"): ("Answers are like the reference answers", False),
    ("dev", "stopped"): ("Answers end by themselves", True),
    ("dev", "repeated_4grams"): ("Words that are said over again", True),
    ("dev", "checks_passed"): ("Answers do what was asked for", True),
    ("conversations", "turns_passed"): ("In conversations: turns do what was asked for", True),
    ("conversations", "stopped"): ("In conversations: answers end by themselves", True),
    ("safety", "passed"): ("Harmful and delicate prompts are answered with care", True),
}
"""What a measure is called, and whether it is a share to be shown in percent."""

CSS = """
.html-container:has(.retrain) { padding: 0; }
.retrain .wide table { border-collapse: collapse; width: 100%; border: 0 !important; }
.retrain .wide th, .retrain .wide td { padding: .35rem .6rem; text-align: left; font-weight: normal; }
.retrain .wide :is(thead, tbody, tr) { border: 0 !important; }
.retrain .wide th, .retrain .wide td { border: 0; border-bottom: 1px solid var(--border-color-primary); }
.retrain .wide thead th { font-weight: bold; }
.retrain td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
.retrain .wide { overflow-x: auto; contain: inline-size; }
.retrain progress { width: 100%; height: 1rem; accent-color: var(--color-accent); }
#curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
#curves > * { min-width: 0 !important; overflow: hidden; }
.retrain .quiet { color: var(--body-text-color-subdued); }
.retrain blockquote, .retrain .answer { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; }
.retrain details { margin: .3rem 0; overflow-wrap: anywhere; }
.retrain summary { cursor: pointer; }
"""


def html(*parts: str) -> str:
    """Parts on the page, in its style."""
    return f'<div class="retrain">{"".join(parts)}</div>'


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if text else ""


def now(found: Standing) -> str:
    """How the retraining stands, with a bar while it runs."""
    state = found.state
    if state is None:
        return ""
    if not found.running:
        done = {True: f"{state.run} is ready, and compared with {state.against}: see below."}
        return html(paragraph(done.get(state.phase == "done", found.sentence)))
    if found.stopping:
        return html(paragraph(f"{state.run} saves what is done and stops. This can take a minute."), _bar(found))
    what = {
        "training": f"{state.run} is being trained.",
        "comparing": f"{state.run} and the current release answer the same prompts.",
    }
    return html(paragraph(what.get(state.phase, "")), _bar(found), paragraph(state.said, "quiet"))


def beginning() -> str:
    """Between a click and the first sign of the process that it began."""
    return html(paragraph("It is beginning. That takes some seconds."), '<progress aria-label="Beginning"></progress>')


def _bar(found: Standing) -> str:
    state = found.state
    if state is None or not state.total:
        return '<progress aria-label="How far it is"></progress>'
    left = "" if state.seconds_left is None else f", about {minutes(state.seconds_left)} left"
    unit = "Step" if state.phase == "training" else "Answer"
    words = f"{unit} {state.done:,} of {state.total:,}{left}"
    return f'<progress aria-label="How far it is" value="{state.done}" max="{state.total}">{escape(words)}</progress>{paragraph(words)}'


def news(plan: Plan) -> str:
    """What is new since the current release, with the dialogues themselves, and how long a retraining takes."""
    new = plan.news
    parts = [paragraph(_counted(plan))]
    if new.known:
        parts += _dialogues("New", new.added)
        parts += _dialogues("Changed", new.changed)
        if new.removed:
            parts.append(
                paragraph("No longer there: " + ", ".join(one.id or one.fingerprint for one in new.removed[:SHOWN]))
            )
    if new.any:
        parts.append(paragraph(plan.estimate.sentence))
    return html(*parts)


def _counted(plan: Plan) -> str:
    new, name = plan.news, plan.current.name
    if not new.known:
        return f"What {name} was trained on was not kept, so all {len(plan.dialogues):,} dialogues count as new."
    if not new.any:
        return (
            f"Nothing is new since {name}, which was trained on the same {new.same:,} dialogues. Keep a conversation on the chat page, or "
            "accept one under Review, and come back."
        )
    kinds = {"new": len(new.added), "changed": len(new.changed), "removed": len(new.removed)}
    counted = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    return f"Since {name} was trained: {counted}; {new.same:,} dialogues are as before. The next release is trained on all of them."


def _dialogues(title: str, dialogues: list[Dialogue]) -> Iterable[str]:
    for dialogue in dialogues[:SHOWN]:
        first = next(message.content for message in dialogue.messages if message.role == "user")
        said = "".join(
            f'<blockquote class="answer"><b>{escape(message.role)}</b>\n{escape(message.content)}</blockquote>'
            for message in dialogue.messages
        )
        yield f"<details><summary>{title}: {escape(_short(first))}</summary>{said}</details>"
    if len(dialogues) > SHOWN:
        yield paragraph(f"... and {len(dialogues) - SHOWN} more.")


def _short(text: str, most: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def comparison(found: Comparison) -> str:
    """Both releases side by side, in plain words."""
    rows = []
    for (of, name), (words, share) in MEASURES.items():
        measure = found.measure(of, name)
        if measure is not None:
            cells = [_number(measure.candidate.mean, share), _number(measure.current.mean, share)]
            numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
            rows.append(f'<tr><th scope="row">{words}</th>{numbers}<td>{_told(measure, share)}</td></tr>')
    head = "".join(
        f'<th scope="col">{escape(title)}</th>'
        for title in ("", f"{found.candidate.name} (new)", f"{found.current.name} (current)", "Difference")
    )
    return html(
        f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _percent(share: float) -> str:
    """A share in hundredths, with a decimal where it would be none or one."""
    return f"{share * 100:.1f}" if 0 < share < 0.015 else f"{share * 100:.0f}"


def _number(value: float, share: bool) -> str:
    return _percent(value) + "%" if share else f"{value:.2f}"


def _told(measure: Measure, share: bool) -> str:
    apart = measure.difference
    if apart.low <= 0 <= apart.high:
        return "none that can be told"
    by = f"{_percent(abs(apart.mean))} points" if share else f"{abs(apart.mean):.2f}"
    return f"{by} {'more' if apart.mean > 0 else 'less'}"


def verdict(name: str, guard: Guard, current: str) -> str:
    """Promote or keep, and why."""
    if name == current:
        override = guard.override
        in_spite = f" It was promoted in spite of what follows, because: {override.why}" if override else ""
        return html(paragraph(f"{name} chats now.{in_spite}"), _list(guard.reasons) if override else "")
    if not guard.blocks:
        return html(
            paragraph(
                f"Better promote {name}: nothing that is measured is worse than with {guard.against} by more than another training on the "
                "same dialogues would change it by chance."
            )
        )
    return html(paragraph(f"Better keep {guard.against}:"), _list(guard.blocks))


def _list(items: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
