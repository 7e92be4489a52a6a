"""`thousand data review`: the queue in a terminal, one key for each decision."""

import sys

import click
from rich.console import Console
from rich.text import Text

from assistant.base_model import Say
from assistant.console import visible
from assistant.dialogue import Message
from assistant.errors import ThousandError
from assistant.provenance import Provenance
from serve.kept import kept_file
from serve.review import Waiting, accept, queue, reject
from serve.store import Store
from train.data.gate import Gate, Look

KEYS = "accept (a)   edit (e)   reject (r)   skip (s)   quit (q)"
LONGEST_PROMPT = 90
"""Characters shown of a neighbour's prompt."""


def _key() -> str:
    """One key from the terminal, or one character of what is piped in; q at its end."""
    if not sys.stdin.isatty():
        return sys.stdin.read(1) or "q"
    try:
        return click.getchar()
    except (EOFError, KeyboardInterrupt):
        return "q"


def _credited(origin: Provenance) -> str:
    """Whose texts it was made from, where that must be said."""
    works = origin.works or ()
    said = {
        "by": dict.fromkeys(work.author for work in works if work.author),
        "under": dict.fromkeys(work.license for work in works if work.license),
        "at": dict.fromkeys(work.url for work in works if work.url),
    }
    parts = [f"{how} {' and '.join(map(str, what))}" for how, what in said.items() if what]
    return f"; text {' '.join(parts)}" if parts else ""


def where_from(item: Waiting) -> str:
    """In a line, where a dialogue comes from."""
    origin = item.dialogue.provenance
    assert origin is not None
    when = (origin.given or "")[:16].replace("T", " ") + " UTC"
    if origin.file is not None:
        return f"from {origin.file}, added {when}{_credited(origin)}"
    said = "the last answer is a person's own" if origin.corrected else "as the assistant answered it"
    who = "" if origin.by is None else f" by {origin.by}"
    return f"from a conversation, given {when}{who}; {said}"


def look_lines(look: Look) -> list[tuple[str, str]]:
    """What the gate saw, as lines, each with how much it matters: `error`, `warning` or `note`."""
    lines = [("error", f"also in a held-out set: {finding.what}") for finding in look.contamination]
    lines += [
        ("error" if finding in look.faults else "warning", f"{finding.rule}: {finding.what}")
        for finding in look.findings
    ]
    lines += [("error", f"personal data? {found}") for found in look.personal]
    for near in look.neighbours:
        prompt = near.prompt if len(near.prompt) <= LONGEST_PROMPT else f"{near.prompt[:LONGEST_PROMPT]}..."
        lines.append(("note", f"{near.similarity:.2f} similar, {near.where}: {' '.join(prompt.split())}"))
    return lines


_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def _show(item: Waiting, messages: tuple[Message, ...], look: Look, console: Console) -> None:
    for number, message in enumerate(messages, 1):
        console.print(Text(f"{number} {message.role}", style="bold"))
        console.print(Text(visible(message.content)), soft_wrap=True)
    if item.answered is not None:
        console.print(Text("the assistant had answered", style="bold dim"))
        console.print(Text(visible(item.answered), style="dim"), soft_wrap=True)
    if item.reason is not None:
        console.print(Text(f"the person says: {visible(item.reason)}"), soft_wrap=True)
    for level, line in look_lines(look):
        console.print(Text(visible(line), style=_STYLES[level]), soft_wrap=True)


def _which(messages: tuple[Message, ...], console: Console) -> int:
    """Which message is to be edited: one key, its number; anything else is the last one."""
    console.print(f"Which message? 1 to {len(messages)}; any other key is the last", highlight=False)
    key = _key()
    chosen = int(key) - 1 if key.isascii() and key.isdecimal() else -1
    return chosen if 0 <= chosen < len(messages) else len(messages) - 1


def _edited(messages: tuple[Message, ...], console: Console) -> tuple[Message, ...]:
    """The messages after one was changed in $EDITOR; as they were where nothing was saved, or nothing is left."""
    place = _which(messages, console) if len(messages) > 2 else len(messages) - 1
    try:
        text = click.edit(messages[place].content, extension=".md")
    except click.ClickException as error:
        console.print(
            f"The editor did not run: {error.message} Set EDITOR to one that is installed.", style="red", markup=False
        )
        return messages
    if text is None or not text.strip():
        console.print("Nothing was changed.", style="dim")
        return messages
    changed = messages[place].model_copy(update={"content": text.strip()})
    return (*messages[:place], changed, *messages[place + 1 :])


def _decide(store: Store, item: Waiting, look: Look, gate: Gate, reviewer: str, console: Console) -> str:
    """Ask about one dialogue until it is decided; returns the key."""
    messages = item.dialogue.messages
    while True:
        _show(item, messages, look, console)
        console.print(KEYS, style="bold", highlight=False)
        while (key := _key().lower()) not in tuple("aersq"):
            pass
        if key == "e":
            messages = _edited(messages, console)
            (look,) = gate.look([item.dialogue.model_copy(update={"messages": messages})])
            continue
        try:
            if key == "a":
                accept(store, item.id, reviewer=reviewer, messages=messages)
            elif key == "r":
                reject(store, item.id)
        except ThousandError as error:
            console.print(str(error), style="red", markup=False)
            return "s"
        return key


def review_in_terminal(store: Store, reviewer: str, console: Console, say: Say) -> None:
    """Go through the queue; what is skipped stays in it."""
    items = queue(store)
    if not items:
        console.print("Nothing waits for review. People's feedback comes here, and: thousand data add FILE")
        return
    gate = Gate(kept_file(), say)
    looks = gate.look([item.dialogue for item in items])
    decided = {"a": 0, "r": 0, "s": 0}
    for number, (item, look) in enumerate(zip(items, looks, strict=True), 1):
        console.print(
            Text(f"\n{number} of {len(items)}, {visible(where_from(item))}", style="bold blue"), soft_wrap=True
        )
        key = _decide(store, item, look, gate, reviewer, console)
        if key == "q":
            break
        decided[key] += 1
    left = len(items) - decided["a"] - decided["r"]
    console.print(
        f"{decided['a']} accepted into {kept_file()}, {decided['r']} rejected, {left} still wait",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
