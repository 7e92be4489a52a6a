"""Message trees of OpenAssistant as training examples: whole trees, one a line, or single messages, as both are published."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from assistant.dialogue import is_text
from assistant.jsonl import Problem, shown
from train.data.curate.files import Raw
from train.data.curate.items import Item, Judged
from train.data.curate.markdown import Clean, clean_markdown
from train.data.curate.row_rules import Bounds, Finding, findings, first_fault
from train.data.curate.table import finished, values_of

LICENSE = "Apache-2.0"
"""Of both sets, by their authors' word (Koepf et al. 2023, arXiv 2304.07327)."""
CHANGES = "the best-ranked path of a message tree; links and images removed"
WANTED = frozenset({"message_tree_id"})
LABELLED = 0.5
"""From this mean of the reviewers' votes on a label is taken for given."""
_BAD_LABELS = ("spam", "lang_mismatch", "pii", "not_appropriate", "hate_speech", "sexual_content")
_READY = "ready_for_export"
RULES = {
    "tree-state": "trees that were not finished, or taken back",
    "language": "trees in other languages than --language",
    "no-answer": "trees without an answer that can be used",
    "labels": "messages that reviewers called spam, improper or personal",
}
Message = dict[str, Any]
_TREE = re.compile(rb'"message_tree_id"\s*:\s*"([^"\\]+)"')


@dataclass(frozen=True)
class Trees:
    """How the messages are read and judged."""

    bounds: Bounds
    language: str

    def __call__(self, file: str, raws: list[Raw]) -> Judged:
        """What some lines are; those of one tree's messages stand together."""
        judged = Judged([], [])
        read: list[tuple[Raw, Message]] = []
        for raw in raws:
            try:
                value = values_of(raw)
                _text_of(value, "message_tree_id")
                read.append((raw, value))
            except ValueError as error:
                judged.problems.append(Problem(f"{file}:{raw.place}", str(error)))
        for _, group in groupby(read, key=_item_of):
            messages = [(raw.place, message) for raw, message in group]
            place, tree = messages[0]
            left_out: list[tuple[int, str]] = []
            try:
                judged.items.append(self._item(file, place, tree, _path_of(messages, left_out)))
            except (ValueError, RecursionError) as error:
                left_out.append((place, str(error)))
            judged.problems.extend(Problem(f"{file}:{line}", reason) for line, reason in left_out)
        return judged

    def _item(self, file: str, line: int, tree: Message, path: list[Message]) -> Item:
        name = Path(file).name
        identifier, language = _text_of(tree, "message_tree_id"), str(path[0].get("lang"))
        item = Item(identifier, f"{name}:{line}", language, 0.0, None, None)
        fault = first_fault(self._findings(tree, path))
        if fault is not None:
            return item._replace(rule=fault[0], found=fault[1])
        used = 2
        while used < len(path) and first_fault(self._of_pair(path[used : used + 2])) is None:
            used += 2  # What comes before an answer that a rule drops stands without it.
        item = item._replace(score=_labels(path[1]).get("quality", 0.0))
        return finished(item, list(map(_cleaned, path[:used])), _credits(path[:used]))

    def findings(self, raws: list[Raw]) -> Iterator[Finding]:
        """What each rule says of a tree and its first answer; rows of it that cannot be read are passed over, as above."""
        messages = []
        for raw in raws:
            with suppress(ValueError):
                messages.append((raw.place, values_of(raw)))
        yield from self._findings(messages[0][1], _path_of(messages, []))

    def _findings(self, tree: Message, path: list[Message]) -> Iterator[Finding]:
        state, language = tree.get("tree_state", _READY), path[0].get("lang")
        gone = None if _stands(path[0]) else "its first message was deleted or refused"
        yield "tree-state", gone if state == _READY else str(state)
        yield "language", None if language == self.language else str(language)
        yield "no-answer", None if len(path) > 1 else "no answer that was not deleted or refused"
        if len(path) > 1:
            yield from self._of_pair(path[:2])

    def _of_pair(self, pair: list[Message]) -> Iterator[Finding]:
        yield "labels", _labelled(pair[0]) or _labelled(pair[1])
        yield from findings(_cleaned(pair[0]), _cleaned(pair[1]), self.bounds)


def _cleaned(message: Message) -> Clean:
    return clean_markdown(_text_of(message, "text"))


def _path_of(messages: Sequence[tuple[int, Message]], left_out: list[tuple[int, str]]) -> list[Message]:
    """The best path of one line that is a whole tree, or of the messages of one tree, each with its line.

    Messages that are left out are added with the reason. Raises ValueError with the reason for which the whole tree is.
    """
    first = messages[0][1]
    root = _checked(first["prompt"] if "prompt" in first else _rooted(messages, left_out))
    if root["role"] != "prompter":
        raise ValueError(f"its first message has the role {shown(root['role'])}; it must be the prompter's")
    return _best_path(root)


def _item_of(read: tuple[Raw, Message]) -> object:
    """Equal for lines of one item: a line that is a whole tree is one by itself."""
    raw, value = read
    return raw.place if "prompt" in value else value["message_tree_id"]


def of_one_tree(before: Raw, after: Raw) -> bool:
    """Whether two rows are messages of one tree."""
    first = _tree_of(before)
    return first is not None and first == _tree_of(after)


def _tree_of(raw: Raw) -> object:
    if isinstance(raw.value, dict):
        return raw.value.get("message_tree_id")
    found = _TREE.search(raw.value)
    return found[1] if found else None


def _text_of(message: Message, field: str) -> str:
    value = message.get(field)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"has no {field}" if value in (None, "") else f"its {field} is {shown(value)}, which is no text"
        )
    if not is_text(value):
        raise ValueError(f"its {field} holds half a surrogate pair, which is not text")
    return value


def _checked(message: Any) -> Message:
    """A message with its replies. Raises ValueError with the reason."""
    if not isinstance(message, dict):
        raise ValueError(f"its prompt is a {type(message).__name__}; it must be a message")
    for field in ("text", "role"):
        _text_of(message, field)
    replies = message.get("replies")
    if not isinstance(replies, list | None):
        raise ValueError(f"its replies are a {type(replies).__name__}; they must be a list")
    return message


def _rooted(messages: Sequence[tuple[int, Message]], left_out: list[tuple[int, str]]) -> Message:
    """The first of a tree's messages, each with its replies. Raises ValueError where there is not one."""
    known: dict[str, tuple[int, Message]] = {}
    for line, message in messages:
        try:
            identifier, parent = _text_of(message, "message_id"), message.get("parent_id")
            if not isinstance(parent, str | None):
                raise ValueError(f"its parent_id is {shown(parent)}, which is no text")
            if identifier in known:
                raise ValueError(f"the message {identifier} stands twice in its tree; the first is used")
            known[identifier] = line, {**message, "replies": []}
        except ValueError as error:
            left_out.append((line, str(error)))
    roots = []
    for _, message in known.values():
        if not message.get("parent_id"):
            roots.append(message)
        elif message["parent_id"] in known:
            known[message["parent_id"]][1]["replies"].append(message)
    if len(roots) != 1:
        raise ValueError(
            f"its tree has {len(roots)} first messages here; sort the file so that messages of one message_tree_id stand together"
        )
    reached, waiting = set(), [roots[0]]
    while waiting:
        message = waiting.pop()
        reached.add(message["message_id"])
        waiting += message["replies"]
    left_out += [
        (line, f"answers {message['parent_id']}, from which no way leads back to the first message of its tree")
        for identifier, (line, message) in known.items()
        if identifier not in reached
    ]
    return roots[0]


def _number(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _rank(message: Message) -> float:
    rank = _number(message.get("rank"))
    return math.inf if rank is None else rank


def _stands(message: Message) -> bool:
    """Whether a message was neither deleted nor refused."""
    return not message.get("deleted") and message.get("review_result") is not False


def _best_path(root: Message) -> list[Message]:
    """From the first message the best-ranked reply each, that was not deleted or refused; it ends on an answer.

    Where nobody ranked them, that which was replied to, and of those the one of higher quality.
    """
    path = [root]
    while True:
        role = "assistant" if path[-1]["role"] == "prompter" else "prompter"
        replies = [_checked(reply) for reply in path[-1].get("replies") or []]
        fit = [reply for reply in replies if reply["role"] == role and _stands(reply)]
        if not fit:
            return path[: len(path) // 2 * 2] or path
        path.append(min(fit, key=lambda r: (_rank(r), not r.get("replies"), -_labels(r).get("quality", 0.0))))


def _labels(message: Message) -> dict[str, float]:
    """What reviewers said of a message: the means by label, from either form."""
    found = message.get("labels")
    if not isinstance(found, dict):
        return {}
    if isinstance(found.get("name"), list) and isinstance(found.get("value"), list):
        pairs = zip(found["name"], found["value"], strict=False)
    else:
        pairs = ((name, said.get("value")) for name, said in found.items() if isinstance(said, dict))  # type: ignore[assignment]
    return {name: mean for name, value in pairs if isinstance(name, str) and (mean := _number(value)) is not None}


def _labelled(message: Message) -> str | None:
    labels = _labels(message)
    bad = next((name for name in _BAD_LABELS if labels.get(name, 0.0) >= LABELLED), None)
    return f"{bad} {labels[bad]:.2f}" if bad else None


def _credits(path: Sequence[Message]) -> list[dict[str, str]]:
    """Of each message its author, whom the sets name by a number of their own."""
    authors = [str(message.get("user_id") or "unknown") for message in path]
    return [{"author": f"OpenAssistant contributor {author}", "license": LICENSE} for author in authors]
