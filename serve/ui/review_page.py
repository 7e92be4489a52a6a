"""The review page: one dialogue after another that people kept, corrected or added, with what the gate sees of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from threading import Lock
from typing import Any

import gradio

from assistant.base_model import quiet
from assistant.dialogue import Message
from serve.access import Access
from serve.kept import kept_file
from serve.keys import OWN
from serve.review import Waiting, accept, queue, reject
from serve.review_terminal import look_lines, where_from
from serve.store import Store
from serve.ui.operator import NOT_YOURS, attempt, may_operate
from serve.ui.view import markdown, plain
from train.data.gate import Gate, Look

ABOUT = """# Review

What people kept, corrected or added waits here until you decide whether the assistant may learn from it. Accepted dialogues go
into `kept.jsonl`, and the next retraining uses them; rejected ones do not come again. Keys: **a** accept, **e** edit, **r** reject,
**s** skip."""
READING = "Looking at what waits. The first time this takes up to half a minute."
NOTHING = "**Nothing waits for review.** When somebody keeps or corrects an answer on the chat page, it comes here."
LATER = "**That was all.** What you skipped waits here when you load the page again."
LEVELS = {
    "error": "Must be looked at",
    "warning": "Worth a look",
    "note": "Nearest to it in the training data (1.00 means the same)",
}

CSS = """
#review { overflow-wrap: anywhere; }
#review .turn { border: 1px solid var(--border-color-primary); border-radius: .6rem; padding: .6rem .9rem; margin: 0 0 .6rem; }
#review .user { background: var(--background-fill-secondary); margin-left: 8%; }
#review .before { border-style: dashed; }
#review h3 { font-size: .85rem; margin: 0 0 .25rem; color: var(--body-text-color); }
#review .error, #review .warning, #review .note { margin: 0 0 .9rem; }
#review ul { margin: .2rem 0 0 1.2rem; padding: 0; list-style: disc; }
#review .error { border-left: 4px solid #b3261e; padding-left: .7rem; }
#review .warning { border-left: 4px solid #8a5a00; padding-left: .7rem; }
#review .note { border-left: 4px solid var(--border-color-primary); padding-left: .7rem; }
#review pre { overflow-x: auto; }
#review-buttons button { min-width: 6rem; }
@media (max-width: 800px) { #review .user { margin-left: 0; } }
"""

KEYS = """() => {
  if (window.thousandReview) return;
  window.thousandReview = true;
  const names = { a: "accept", e: "edit", r: "reject", s: "skip" };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable=true]");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !(event.key in names)) return;
    const button = document.querySelector(`#review-${names[event.key]}`);
    if (button && button.offsetParent !== null && !button.disabled) { event.preventDefault(); button.click(); }
  });
}"""


@dataclass
class Shown:
    """What one open page is at."""

    item: Waiting | None = None
    messages: tuple[Message, ...] = ()
    """Of the dialogue, as they were changed."""
    skipped: frozenset[str] = field(default_factory=frozenset)


class Looks:
    """What the gate saw, so that it looks at each dialogue once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._gate: Gate | None = None
        self._known: dict[tuple[str, tuple[Message, ...]], Look] = {}

    def forget(self) -> None:
        """Look anew, also at what was kept since."""
        with self._lock:
            self._gate = None
            self._known.clear()

    def of(self, items: Sequence[Waiting], chosen: Waiting, messages: tuple[Message, ...]) -> Look:
        """What is seen of the chosen one with these messages; all that wait are looked at together."""
        with self._lock:
            self._gate = self._gate or Gate(kept_file(), quiet)
            wanted = [(item.id, item.dialogue.messages, item) for item in items] + [(chosen.id, messages, chosen)]
            missing = {(name, said): item for name, said, item in wanted if (name, said) not in self._known}
            looks = self._gate.look(
                [item.dialogue.model_copy(update={"messages": said}) for (_, said), item in missing.items()]
            )
            self._known.update(zip(missing, looks, strict=True))
            return self._known[chosen.id, messages]


def _turn(role: str, text: str, name: str, extra: str = "") -> str:
    body = markdown(text) if role == "assistant" else plain(text)
    return f'<section class="turn {role} {extra}"><h3>{escape(name)}</h3>{body}</section>'


def _shown(item: Waiting, messages: Sequence[Message], look: Look) -> str:
    """A dialogue with what was seen of it, as HTML."""
    names = {"system": "System prompt", "user": "The person", "assistant": "The assistant"}
    parts = [_turn(message.role, message.content, names[message.role]) for message in messages]
    if item.answered is not None:
        parts.append(_turn("assistant", item.answered, "What the assistant had answered before", "before"))
    if item.reason is not None:
        parts.append(f"<p>The person says: {escape(item.reason)}</p>")
    lines = look_lines(look)
    for level, title in LEVELS.items():
        told = "".join(f"<li>{escape(line)}</li>" for found, line in lines if found == level)
        if told:
            parts.append(f'<div class="{level}"><h3>{title}</h3><ul>{told}</ul></div>')
    if look.clean:
        parts.append("<p>Nothing was found that would speak against it.</p>")
    return f'<div id="review">{"".join(parts)}</div>'


def _choices(messages: Sequence[Message]) -> list[tuple[str, int]]:
    """The messages to choose from, the first words of each."""
    return [(f"{n + 1}. {m.role}: {' '.join(m.content.split())[:50]}", n) for n, m in enumerate(messages)]


def build_review(access: Access, store: Store) -> None:
    """Adds the page to the Blocks that it is called in. Each handler asks who is there, since what is hidden can still be called."""
    looks = Looks()
    gradio.HTML(f"<style>{CSS}</style>", padding=False)
    gradio.Markdown(ABOUT)
    shown = gradio.State(Shown())
    where = gradio.Markdown(READING, elem_id="review-where")
    dialogue = gradio.HTML("", padding=False)
    with gradio.Row(visible=False, elem_id="review-buttons") as buttons:
        accepting = gradio.Button("Accept (a)", variant="primary", elem_id="review-accept")
        editing = gradio.Button("Edit (e)", elem_id="review-edit")
        rejecting = gradio.Button("Reject (r)", variant="stop", elem_id="review-reject")
        skipping = gradio.Button("Skip (s)", elem_id="review-skip")
    with gradio.Column(visible=False) as editor:
        which = gradio.Radio(choices=[], label="Which message", elem_id="review-which")
        text = gradio.Textbox(label="What it should say", lines=6, max_lines=20, elem_id="review-text")
        with gradio.Row():
            saving = gradio.Button("Use this text", variant="primary", elem_id="review-save")
            leaving = gradio.Button("Leave it as it was", elem_id="review-leave")
    outputs = [shown, where, dialogue, buttons, editor]

    def show(state: Shown) -> list[Any]:
        """The page at the dialogue of `state`, or at the next one that waits."""
        items = [item for item in queue(store) if item.id not in state.skipped]
        ids = [item.id for item in items]
        if state.item is None or state.item.id not in ids:
            first = items[0] if items else None
            state = Shown(first, first.dialogue.messages if first else (), state.skipped)
        if state.item is None:
            told = LATER if state.skipped else NOTHING
            return [state, told, "", gradio.Row(visible=False), gradio.Column(visible=False)]
        look = looks.of(items, state.item, state.messages)
        told = f"**{len(items)} to review.** This one is {where_from(state.item)}."
        html = _shown(state.item, state.messages, look)
        return [state, told, html, gradio.Row(visible=True), gradio.Column(visible=False)]

    def refused(state: Shown) -> list[Any]:
        return [state, NOT_YOURS, "", gradio.Row(visible=False), gradio.Column(visible=False)]

    def load(request: gradio.Request) -> list[Any]:
        if not may_operate(access, request):
            return refused(Shown())
        looks.forget()
        return show(Shown())

    def decide(state: Shown, request: gradio.Request, *, keep: bool) -> list[Any]:
        item = state.item

        def act() -> str:
            assert item is not None
            if not keep:
                reject(store, item.id)
                return "It was rejected and does not come again."
            accept(store, item.id, reviewer=request.username or OWN, messages=state.messages)
            return "It was accepted; the next retraining uses it."

        if item is not None:
            attempt(access, request, act)
        return show(Shown(skipped=state.skipped)) if may_operate(access, request) else refused(state)

    def take(state: Shown, request: gradio.Request) -> list[Any]:
        return decide(state, request, keep=True)

    def drop(state: Shown, request: gradio.Request) -> list[Any]:
        return decide(state, request, keep=False)

    def skip(state: Shown, request: gradio.Request) -> list[Any]:
        if not may_operate(access, request):
            return refused(state)
        return show(Shown(skipped=state.skipped | ({state.item.id} if state.item else set())))

    def edit(state: Shown, request: gradio.Request) -> list[Any]:
        if not may_operate(access, request) or state.item is None:
            return [gradio.Column(visible=False), gradio.skip(), gradio.skip()]
        last = len(state.messages) - 1
        choice = gradio.Radio(choices=_choices(state.messages), value=last)
        return [gradio.Column(visible=True), choice, state.messages[last].content]

    def choose(state: Shown, number: int | None) -> Any:
        return state.messages[number].content if number is not None and number < len(state.messages) else gradio.skip()

    def save(state: Shown, number: int, content: str, request: gradio.Request) -> list[Any]:
        if not may_operate(access, request):
            return refused(state)
        if not content.strip():
            gradio.Warning("A message cannot be empty; reject the dialogue if it is no good.", title="Not changed")
            return [gradio.skip()] * len(outputs)
        changed = list(state.messages)
        changed[number] = changed[number].model_copy(update={"content": content.strip()})
        return show(Shown(state.item, tuple(changed), state.skipped))

    quietly: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    gradio.on(None, load, outputs=outputs, **quietly)
    gradio.on(None, None, js=KEYS, **quietly)
    for button, handler in ((accepting, take), (rejecting, drop), (skipping, skip)):
        button.click(handler, [shown], outputs, trigger_mode="once", **quietly)
    focus = "() => setTimeout(() => document.querySelector('#review-text textarea')?.focus(), 100)"
    editing.click(edit, [shown], [editor, which, text], **quietly).then(None, js=focus, **quietly)
    which.input(choose, [shown, which], [text], **quietly)
    saving.click(save, [shown, which, text], outputs, **quietly)
    leaving.click(lambda: gradio.Column(visible=False), outputs=[editor], **quietly)
