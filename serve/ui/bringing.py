"""Dialogues of a file that somebody brings to the page; the file is read where it is, and kept nowhere."""

from io import BytesIO

from assistant.dialogue import Dialogue
from assistant.errors import ThousandError
from assistant.jsonl import lines, parse_object, validated
from serve.ui import tree
from serve.ui.tree import Conversation

MOST_TOLD = 3


def read(name: str, text: str) -> list[Conversation]:
    """The conversations of a file of dialogues. Raises ThousandError naming what is wrong with it; then none is taken."""
    found: list[Conversation] = []
    problems: list[str] = []
    for line in lines(BytesIO(text.encode(errors="surrogatepass"))):
        try:
            found.append(tree.from_dialogue(validated(parse_object(line), Dialogue)))
        except ValueError as error:
            problems += [f"line {line.number}: {reason}" for reason in str(error).split("\n")]
    shown = "; ".join(problems[:MOST_TOLD]) + (f"; and {len(problems) - MOST_TOLD} more" * (len(problems) > MOST_TOLD))
    if problems:
        raise ThousandError(
            f"{name} was not imported: {shown}. It must hold one dialogue a line, as Export writes them; nothing was changed."
        )
    if not found:
        raise ThousandError(f"{name} holds no dialogue; nothing was changed.")
    return found
