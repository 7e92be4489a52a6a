"""The parts of the chat page: what there is to see, without what it does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio

from assistant.sampling import Sampling
from serve.chat import Chat
from serve.feedback import CONSENT
from serve.served import CURRENT, Served

SCRIPT = Path(__file__).with_name("page.js")
STYLE = Path(__file__).with_name("page.css")

SHELF = """
<details><summary>Conversations</summary>
<div class="row"><button type="button" data-do="new">New conversation</button></div>
<nav aria-label="Your conversations"><ul></ul></nav>
<div class="row" role="group" aria-label="The open conversation">
<button type="button" data-do="rename">Rename</button> <button type="button" data-do="delete">Delete</button>
<button type="button" data-do="export">Export</button></div>
<div class="row" role="group" aria-label="All conversations">
<button type="button" data-do="export-all">Export all</button> <button type="button" data-do="import">Import</button></div>
<input type="file" accept=".jsonl,.json,application/jsonl" hidden aria-label="A file of dialogues to import"></details>
"""
FORM = f"""
<template id="form"><form><label><span></span><textarea></textarea></label>
<label class="consent"><input type="checkbox"> {CONSENT}</label>
<div class="bar"><button type="submit"></button><button type="button" data-cancel>Cancel</button></div></form></template>
"""
HELP = """
**Keys.** Enter sends, Shift+Enter begins a new line. Esc stops an answer, or closes a form. Alt+M goes to the message box,
Alt+N begins a new conversation. Ctrl+Enter sends a form. Everything else is reached with Tab.

**Versions.** Editing a question or trying again keeps what was there: the arrows at "2 / 3" go from one version to the other.
"""
HINTS = {
    "temperature": "How varied answers are. 0 always gives the likeliest words; above 1 it becomes odd.",
    "top_p": "How many of the likely words are drawn from. 1 is all of them; lower keeps to the likeliest.",
    "repetition_penalty": "How much words used lately are avoided. 1 is not at all; too high makes it avoid needed words.",
    "max_tokens": "Where an answer is cut off at the latest. A token is about three quarters of a word.",
    "seed": "A number: the same one gives the same answer to the same conversation. Empty draws anew each time.",
}


@dataclass(frozen=True)
class Parts:
    """The components that do something."""

    held: Any
    brought: Any
    about: Any
    release: Any
    shelf: Any
    log: Any
    live: Any
    box: Any
    send: Any
    stop: Any
    undo: Any
    keep: Any
    agreed: Any
    system: Any
    sliders: list[Any]
    seed: Any

    @property
    def settings(self) -> list[Any]:
        """What the chat's values are, in the order of `NAMES`."""
        return [self.system, *self.sliders, self.seed]


def about(chat: Chat) -> str:
    return (
        f"Release **{chat.name}** answers unless you choose another. It has a good manner and a small memory: check its facts. "
        "Conversations are kept in this browser only: nothing is stored on the server until you rate an answer, write the answer "
        "you wanted, or keep a conversation. Then this conversation is, up to that answer."
    )


def sliders(chat: Chat) -> list[Any]:
    """At the release's own defaults."""
    defaults, context = chat.sampling, chat.engine.context
    return [
        gradio.Slider(0, 2, defaults.temperature, step=0.05, label="Temperature", info=HINTS["temperature"]),
        gradio.Slider(0, 1, defaults.top_p, step=0.01, label="Top p", info=HINTS["top_p"]),
        gradio.Slider(
            1, 2, defaults.repetition_penalty, step=0.01, label="Repetition penalty", info=HINTS["repetition_penalty"]
        ),
        gradio.Slider(
            1,
            min(context, 4096),
            min(defaults.max_tokens, context),
            step=1,
            label="Longest answer",
            info=HINTS["max_tokens"],
        ),
    ]


def releases(served: Served) -> list[tuple[str, str]]:
    """What can answer, as a person reads it. Looks into the registry's folder."""
    current = served.current.name
    others = [name for name in served.models() if name not in (CURRENT, current)]
    return [(f"{current} (current)", CURRENT), *[(name, name) for name in others]]


def build_parts(chat: Chat) -> Parts:
    """The page's components, in the Blocks they are called in."""
    held, brought = gradio.JSON(visible=False), gradio.JSON(visible=False)
    gradio.Navbar(main_page_name="Chat")
    gradio.HTML("<h1>Thousand</h1>")
    with gradio.Row(elem_id="sides"):
        with gradio.Column(scale=1, min_width=200):
            shelf = gradio.HTML(
                SHELF, elem_id="shelf", js_on_load="thousand.onShelf(element, trigger); // 'select' 'upload' 'clear'"
            )
        with gradio.Column(scale=3, min_width=280):
            told = gradio.Markdown(about(chat))
            gradio.HTML(FORM + '<p id="notice" role="status"></p>')
            with gradio.Column(elem_id="talk"):
                log = gradio.HTML(
                    "",
                    html_template='<div role="log" aria-label="Conversation" aria-relevant="additions">${value}</div>',
                    js_on_load="thousand.onLog(element, trigger, props, watch); // 'select' 'retry' 'edit' 'like'",
                )
                live = gradio.HTML("", js_on_load="watch('value', thousand.follow);")
            with gradio.Row(elem_id="write"):
                box = gradio.Textbox(
                    label="Your message",
                    placeholder="Ask something",
                    autofocus=True,
                    lines=1,
                    max_lines=12,
                    scale=5,
                    min_width=180,
                    elem_id="box",
                )
                send = gradio.Button("Send", variant="primary", elem_id="send", scale=0, min_width=80)
                stop = gradio.Button("Stop", variant="stop", elem_id="stop", scale=0, min_width=80, visible=False)
            undo = gradio.Button("Undo last question", size="sm", elem_id="undo")
            with gradio.Accordion("Keep this conversation", open=False):
                agreed = gradio.Checkbox(label=CONSENT, value=False)
                keep = gradio.Button("Keep it, to learn from", size="sm", elem_id="keep")
            with gradio.Accordion("Settings", open=False):
                release = gradio.Dropdown(
                    [(f"{chat.name} (current)", CURRENT)],
                    value=CURRENT,
                    label="Which release answers",
                    info="Another one is loaded first, which takes a moment.",
                )
                system = gradio.Textbox(
                    value="",
                    label="System prompt",
                    info="What the assistant should keep to in the whole conversation, such as: Answer briefly.",
                    lines=2,
                )
                moved = sliders(chat)
                seed = gradio.Textbox(value="", label="Seed", info=HINTS["seed"])
            with gradio.Accordion("Help", open=False):
                gradio.Markdown(HELP)
    return Parts(
        held, brought, told, release, shelf, log, live, box, send, stop, undo, keep, agreed, system, moved, seed
    )


NAMES = ("system", *[name for name in Sampling.model_fields if name not in ("stop", "seed")], "seed")
