"""How long the first chat takes on a fresh machine, downloads aside, and how fast the answers come.

    python bench/first_chat.py [RELEASE]

Unpacks the base model into a new THOUSAND_HOME, installs and merges the release that comes along, and holds a
conversation of three turns. Prints a table. Run it while nothing else runs.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

QUESTIONS = [
    "My name is Ada and I live in Porto. What is a good way to spend a rainy morning?",
    "Why is that a good way?",
    "Tell me my name, please.",
]

table = Table("what", "seconds", "tokens", "tokens/s", box=None)


@contextmanager
def measured(what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    table.add_row(what, f"{time.perf_counter() - began:.2f}")


async def converse(chat: object) -> None:
    from assistant.dialogue import Message
    from serve.chat import Chat

    assert isinstance(chat, Chat)
    messages: list[Message] = []
    for number, question in enumerate(QUESTIONS, 1):
        messages.append(Message(role="user", content=question))
        began = time.perf_counter()
        turn = chat.turn(messages, chat.sampling.model_copy(update={"seed": 0}))
        first, pieces = 0.0, []
        async for piece in turn.text:
            first = first or time.perf_counter() - began
            pieces.append(piece)
        rest = time.perf_counter() - began - first
        messages.append(Message(role="assistant", content="".join(pieces)))
        cached = f"{turn.usage.cached_tokens} of {turn.usage.prompt_tokens} prompt tokens cached"
        table.add_row(f"turn {number}: first token ({cached})", f"{first:.2f}")
        table.add_row(
            f"turn {number}: the rest",
            f"{rest:.2f}",
            str(turn.usage.completion_tokens),
            f"{(turn.usage.completion_tokens - 1) / max(rest, 1e-9):.0f}",
        )
    await chat.engine.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["THOUSAND_HOME"] = home
        from assistant import base_model, release
        from serve.start import open_chat

        with measured("unpack the base model and read its tokenizer"):
            base_model.resolve()
        with measured("install the release that comes along"):
            name = sys.argv[1] if len(sys.argv) > 1 else release.current()
        with measured("merge it into one GGUF file and load it"):
            chat = open_chat(name, engine="auto", context=4096, say=lambda line: None)
        asyncio.run(converse(chat))
        with measured("a later start: load it"):
            again = open_chat(name, engine="auto", context=4096, say=lambda line: None)
        asyncio.run(again.engine.close())
    Console().print(table)


main()
