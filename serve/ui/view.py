"""A conversation as HTML. What was typed and what was answered is text or Markdown there, never HTML of its own, and fetches nothing."""

from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from serve.ui import tree
from serve.ui.tree import Conversation, Node

MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable("image")
"""Pictures are left as they were written: showing one would call whoever is named there."""


def _outside(self: RendererHTML, tokens: list[Token], at: int, options: Any, env: Any) -> str:
    tokens[at].attrSet("rel", "noopener noreferrer")
    tokens[at].attrSet("target", "_blank")
    return self.renderToken(tokens, at, options, env)


MARKDOWN.add_render_rule("link_open", _outside)

ENDED = {"length": "reached the longest length", "stopped": "stopped", "failed": "the engine failed"}


def markdown(text: str) -> str:
    """An answer as HTML. Tables and code scroll by themselves, also for who has only a keyboard."""
    shown = str(MARKDOWN.render(text))
    return shown.replace("<pre>", '<pre tabindex="0">')


def plain(text: str) -> str:
    """A question as HTML, as it was typed."""
    return f"<p>{escape(text)}</p>"


def _button(do: str, label: str, name: str, **more: str) -> str:
    told = "".join(f' {key.replace("_", "-")}="{escape(value)}"' for key, value in more.items())
    return f'<button type="button" data-do="{do}" aria-label="{escape(name)}"{told}>{label}</button>'


def _pager(conversation: Conversation, node: Node, what: str) -> str:
    known = tree.versions(conversation, node["id"])
    if len(known) < 2:
        return ""
    at = known.index(node["id"]) + 1
    return (
        f'<span class="pager" role="group" aria-label="Versions of this {what}">'
        f"{_button('previous', '‹', f'Previous version of this {what}')}"
        f'<span data-testid="version">{at} / {len(known)}</span>'
        f"{_button('next', '›', f'Next version of this {what}')}</span>"
    )


def speed(tokens: int, seconds: float) -> str:
    """How many tokens, and how many a second."""
    rate = f" · {tokens / seconds:.0f} tokens/s" if tokens > 1 and seconds > 0 else ""
    return f"{tokens} {'token' if tokens == 1 else 'tokens'}{rate}"


def _facts(node: Node) -> str:
    found = [speed(node["tokens"], node["seconds"])] if "tokens" in node and "seconds" in node else []
    if release := node.get("release"):
        found.append(escape(release))
    if ended := ENDED.get(node.get("finish", "stop")):
        found.append(ended)
    return f'<p class="facts" data-testid="facts">{" · ".join(found)}</p>' if found else ""


def _said(node: Node) -> str:
    """What the person said of an answer."""
    found = ""
    if "wanted" in node:
        found += (
            '<div class="wanted" data-testid="wanted"><p class="who">The answer you wanted</p>'
            f"{markdown(node['wanted'])}</div>"
        )
    if node.get("kept"):
        found += '<p class="facts">Kept on this machine, to learn from after a review.</p>'
    return found


def _turn(conversation: Conversation, node: Node, number: int, is_last: bool) -> str:
    mine = node["role"] == "user"
    what, who = ("question", "You") if mine else ("answer", "Assistant")
    text = node["content"]
    bar = _pager(conversation, node, what)
    bar += _button("copy", "Copy", f"Copy {what} {number}")
    if mine:
        bar += _button("edit", "Edit", f"Edit question {number} and ask it anew")
        if is_last:
            bar += _button("retry", "Try again", f"Answer question {number}")
    else:
        verdict = node.get("verdict")
        bar += _button("retry", "Try again", f"Give another answer in place of answer {number}")
        bar += _button("like", "Good", f"Answer {number} is good", aria_pressed=str(verdict == "like").lower())
        bar += _button("dislike", "Bad", f"Answer {number} is bad", aria_pressed=str(verdict == "dislike").lower())
        bar += _button("wanted", "The answer I wanted", f"Write the answer you wanted in place of answer {number}")
    unanswered = '<p class="facts">No answer yet.</p>' if mine and is_last else ""
    return (
        f'<article class="turn {node["role"]}" aria-label="{who}, {what} {number}" data-id="{node["id"]}" '
        f'data-text="{escape(node.get("wanted", text))}" data-said="{escape(text)}"><p class="who">{who}</p>'
        f'<div class="text" data-testid="{"user" if mine else "bot"}">{plain(text) if mine else markdown(text)}</div>'
        f'{_facts(node)}{unanswered}{_said(node)}<div class="bar">{bar}</div></article>'
    )


def talk(conversation: Conversation, *, waiting: bool = False) -> str:
    """The branch that is shown, with what can be done with each message; `waiting` while an answer is being made."""
    shown = [node for node in tree.branch(conversation) if node["role"] != "system"]
    if not shown:
        return '<p class="empty">Ask something. It may be wrong: check what it says.</p>'
    last = None if waiting else shown[-1]
    return "".join(_turn(conversation, node, at // 2 + 1, node is last) for at, node in enumerate(shown))


def answering(text: str, tokens: int, seconds: float) -> str:
    """An answer in the making."""
    told = speed(tokens, seconds) if text else "Reading the conversation…"
    return (
        '<article class="turn assistant live" aria-label="Assistant, answering" aria-busy="true"><p class="who">Assistant</p>'
        f'<div class="text" data-testid="live">{markdown(text)}</div><p class="facts">{told}</p></article>'
    )
