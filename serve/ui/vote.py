"""Voting on a page, one key a vote: the pairs of a comparison, those of a preference, and answers to be graded."""

from collections.abc import Callable
from html import escape
from typing import Any

import gradio

from evaluation.voting.ballot import Ballot
from evaluation.voting.scale import Scale
from serve.ui.parts import Part, Updates

BACK = "0"
KEYS = """
if (!document.votes) {
  document.votes = true;
  document.addEventListener('keydown', (event) => {
    if (event.target.closest('input, textarea, select, [contenteditable]') || event.ctrlKey || event.metaKey || event.altKey) return;
    const found = /^[0-9]$/.test(event.key) && document.getElementById('vote-' + event.key);
    if (found && !event.repeat) found.click();
  });
  document.addEventListener('click', (event) => {
    if (event.target.closest('button[id^="vote-"]')) document.getElementById('vote').scrollIntoView();
  });
}
"""
"""One key votes; what comes next is shown from its beginning."""
CSS = """
.html-container:has(.vote) { padding: 0; }
.vote .quiet { color: var(--body-text-color-subdued); }
.vote .said { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; }
.vote .answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
.vote .answers > section { border: 1px solid var(--border-color-primary); border-radius: .5rem; padding: .6rem .9rem; min-width: 0; }
.vote .answers h3 { margin: 0 0 .3rem !important; }
#vote-buttons { position: sticky; bottom: 0; z-index: 5; background: var(--body-background-fill); padding: .5rem 0; gap: .5rem; }
#vote-buttons button { font-size: 1rem; padding: .5rem; }
@media (max-width: 800px) { #vote-buttons { position: static; } }
#vote-0 { width: fit-content; min-width: 0; align-self: flex-start; flex: 0 0 auto; }
"""


def item_html(ballot: Ballot, place: int) -> str:
    """One item, without whose answers they are."""
    item = ballot.shown(place)
    titles = ("A", "B") if len(item.answers) == 2 else ("Answer",)
    answers = "".join(
        f'<section aria-label="{title}"><h3>{title}</h3><div class="said">{escape(text.strip()) or "(nothing)"}</div></section>'
        for title, text in zip(titles, item.answers, strict=True)
    )
    system = f'<p class="quiet said">System prompt: {escape(item.system)}</p>' if item.system else ""
    what = "Pair" if len(item.answers) == 2 else "Answer"
    return (
        f'<div class="vote"><p class="quiet">{what} {place + 1} of {len(ballot)}</p>{system}'
        f'<blockquote class="said">{escape(item.user)}</blockquote><div class="answers">{answers}</div></div>'
    )


def build_vote(
    scale: Scale,
    ballot: Callable[[], Ballot | None],
    may: Callable[[gradio.Request], bool],
    *,
    about: str,
    over: Callable[[Ballot], str],
    refused: str,
) -> Part:
    """Adds the items of a ballot and a button for each vote. `ballot` is asked anew each time; `over` is the HTML shown when
    all have a vote; who may not vote is told `refused`."""
    with gradio.Column(visible=False) as section:
        gradio.Markdown(about)
        gradio.HTML("", js_on_load=KEYS, padding=False)
        shown = gradio.HTML(elem_id="vote", padding=False)
        # Of the page, not of the session: what is sent with a vote is then what was on the screen when the key was pressed.
        place = gradio.Number(0, precision=0, visible="hidden", elem_id="vote-place")
        with gradio.Row(elem_id="vote-buttons", equal_height=True) as buttons:
            choices = [
                (gradio.Button(f"{choice.label} ({key})", elem_id=f"vote-{key}"), choice.word)
                for key, choice in enumerate(scale.choices, start=1)
            ]
        back = gradio.Button(f"Take the last one back ({BACK})", elem_id=f"vote-{BACK}", size="sm")

    outputs: list[Any] = [section, shown, place, buttons, back]

    def look() -> Updates:
        found = ballot()
        if found is None:
            return {section: gradio.Column(visible=False)}
        at = found.next()
        return {
            section: gradio.Column(visible=True),
            shown: over(found) if at is None else item_html(found, at),
            place: at,
            buttons: gradio.Row(visible=at is not None),
            back: gradio.Button(visible=at != 0),
        }

    def voted(word: str | None, at: int | None, request: gradio.Request) -> Updates:
        """`at` is what the person saw: a key that is pressed twice votes on it twice, not on the next one."""
        allowed = may(request)
        found = ballot() if allowed else None
        if found is None or (at is not None and not 0 <= at < len(found)):
            gradio.Warning("There is nothing to vote on." if allowed else refused, title="Not done")
            return {}
        if word is not None and at is not None:
            found.vote(at, word)
        elif word is None:
            last = (len(found) if at is None else at) - 1
            if last >= 0:
                found.vote(last, None)
        return look()

    def on(button: gradio.Button, word: str | None) -> None:
        def handler(at: int | None, request: gradio.Request) -> Updates:
            return voted(word, at, request)

        # By default a key would be lost that is pressed before the page is done with the vote before.
        button.click(
            handler,
            inputs=place,
            outputs=outputs,
            api_visibility="private",
            show_progress="hidden",
            trigger_mode="multiple",
            concurrency_id="vote",
        )

    for button, word in choices:
        on(button, word)
    on(back, None)
    return Part(outputs=outputs, look=dict, look_closely=look)
