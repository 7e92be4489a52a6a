"""Answers made worse by rule, each in one way, so that what quality of answers is worth can be measured.

The prompts stay as they are, and so do the places of the stop labels: data of poor quality is learnt from as it comes, its
half sentences with their ends.
"""

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence

from assistant.dialogue import Dialogue, Message
from assistant.errors import ThousandError

_WORD = re.compile(r"\S+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n")
OPENERS = (
    "Great question! I'd be happy to help you with that.",
    "Thank you for reaching out! As an AI language model, I can certainly assist you with this.",
    "Absolutely! This is a very important and interesting topic that many people wonder about.",
    "Sure thing! Let me break this down for you in a simple and easy to understand way.",
    "What a wonderful question! There are many things to consider here, so let's dive right in.",
    "Of course! In today's fast-paced world, this is something that matters more than ever.",
)
CLOSERS = (
    "I hope this helps! Let me know if you have any other questions.",
    "Please note that this is general information only. Feel free to ask if you need anything else!",
    "In conclusion, it all depends on your specific situation and needs. Happy to help further!",
    "Remember, every situation is unique, so always do your own research. Have a great day!",
    "And that's it! Don't hesitate to reach out if anything is unclear.",
    "If you found this useful, feel free to ask me something else. I am always here for you!",
)


def cut(answer: str) -> str:
    """The first half of the words, never up to the end of a sentence: scraped text is often cut."""
    words = list(_WORD.finditer(answer))
    kept = words[: max(1, len(words) // 2)]
    while len(kept) > 1 and kept[-1].group()[-1] in ".!?:":
        kept.pop()
    return answer[: kept[-1].end()]


def first_sentence(answer: str) -> str:
    """The first sentence or line alone: short answers are the cheapest to collect."""
    return next(part.strip() for part in _SENTENCE.split(answer) if part.strip())


def padded(answer: str) -> str:
    """The answer between an empty opening and an empty ending, drawn by its text: all of it is there, in a poor manner."""
    drawn = int.from_bytes(hashlib.sha256(answer.encode()).digest()[:8])
    opener, closer = OPENERS[drawn % len(OPENERS)], CLOSERS[drawn // len(OPENERS) % len(CLOSERS)]
    return f"{opener} {answer} {closer}"


def swapped(dialogues: Sequence[Dialogue], group: Callable[[Dialogue], str], seed: int) -> list[Dialogue]:
    """Each prompt with the answer to another prompt of its group: well written, in the right form, and beside the point.

    Raises ThousandError for less than two dialogues.
    """
    if len(dialogues) < 2:
        raise ThousandError("Answers cannot be swapped among less than two dialogues; give more of them.")
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for number, dialogue in enumerate(dialogues):
        groups[group(dialogue)].append(number)
    alone = [members for members in groups.values() if len(members) == 1]
    rings = [members for members in groups.values() if len(members) > 1]
    if len(alone) == 1:
        rings[0] = rings[0] + alone[0]
    elif alone:
        rings.append([number for members in alone for number in members])
    source = random.Random(seed)  # noqa: S311 (no secret)
    found = list(dialogues)
    for ring in rings:
        source.shuffle(ring)
        for place, number in enumerate(ring):
            other = dialogues[ring[place - 1]].answers[-1]
            found[number] = _answered(dialogues[number], [other])
    return found


def degraded(dialogues: Sequence[Dialogue], rule: Callable[[str], str]) -> list[Dialogue]:
    """The dialogues with every answer put through a rule."""
    return [_answered(dialogue, list(map(rule, dialogue.answers))) for dialogue in dialogues]


def _answered(dialogue: Dialogue, answers: Sequence[str]) -> Dialogue:
    left = iter(answers)
    messages = tuple(
        Message(role="assistant", content=next(left)) if message.role == "assistant" else message
        for message in dialogue.messages
    )
    return dialogue.model_copy(update={"messages": messages})
