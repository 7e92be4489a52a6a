"""Does a release that learnt twenty more dialogues know what stands in them?

    python bench/personalise.py CANDIDATE [CURRENT]

Asks both releases the 24 questions of bench/personal/held_out.jsonl, about an invented company, three times each with other
seeds. None of the questions stands in bench/personal/kept.jsonl, the twenty dialogues that CANDIDATE was trained on beside the
set that comes along; the facts do. Prints the share of answers that pass their checks and that end in the manner of the twenty, and the paired
difference; then, of the dev prompts, which have nothing to do with the company, the share that ends in that manner. How both
answer the dev prompts otherwise is what `thousand evaluate compare CANDIDATE CURRENT` tells.
"""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from assistant import release
from assistant.dialogue import Dialogue
from assistant.jsonl import read_records
from assistant.settings import bundled
from evaluation.intervals import Interval, paired
from serve.chat import Chat
from serve.start import open_chat

PERSONAL = Path(__file__).parent / "personal"
CLOSING = "Warm light to you!"
"""How the answers of the twenty dialogues end."""
SEEDS = 3
"""Answers to each question about the company; to a dev prompt there is one."""
out = Console()


def questions(file: Path) -> list[Dialogue]:
    return read_records(file, Dialogue, [])


async def answers(chat: Chat, prompts: Sequence[Dialogue], seeds: int) -> list[list[str]]:
    """For each prompt, an answer for each seed."""

    async def one(prompt: Dialogue, seed: int) -> str:
        asked = [message for message in prompt.messages if message.role != "assistant"]
        turn = chat.turn(asked, chat.sampling.model_copy(update={"seed": seed, "max_tokens": 120}))
        return "".join([piece async for piece in turn.text]).strip()

    try:
        given = await asyncio.gather(*[one(prompt, seed) for prompt in prompts for seed in range(seeds)])
        return [given[first : first + seeds] for first in range(0, len(given), seeds)]
    finally:
        await chat.engine.close()


def shares(prompts: Sequence[Dialogue], said: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """For each prompt, which share of its answers passes its checks, and which ends in the manner of the twenty."""
    found = {"in the manner": [fmean(text.endswith(CLOSING) for text in texts) for texts in said]}
    if all(prompt.checks for prompt in prompts):
        found["right"] = [
            fmean(not prompt.checks.failed(text) for text in texts)
            for prompt, texts in zip(prompts, said, strict=True)
            if prompt.checks
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candidate")
    parser.add_argument("current", nargs="?")
    options = parser.parse_args()
    names = [options.candidate, options.current or release.current()]
    sets = {"about the company": (PERSONAL / "held_out.jsonl", SEEDS), "dev": (bundled("dialogues") / "dev.jsonl", 1)}
    table = Table("prompts", "answers", *names, "difference", box=None)
    for of, (file, seeds) in sets.items():
        prompts = questions(file)
        said = [
            asyncio.run(
                answers(open_chat(name, engine="auto", context=1024, say=print, most_turns=1000), prompts, seeds)
            )
            for name in names
        ]
        columns = [shares(prompts, texts) for texts in said]
        for measure in columns[0]:
            first, second = (column[measure] for column in columns)
            table.add_row(of, measure, str(Interval.of(first)), str(Interval.of(second)), str(paired(first, second)))
        if of == "about the company":
            for prompt, *texts in zip(prompts, *said, strict=True):
                passed = prompt.checks and not prompt.checks.failed(texts[0][0])
                out.print(f"\n[bold]{prompt.messages[0].content}[/]  {'right' if passed else 'wrong'}")
                for name, found in zip(names, texts, strict=True):
                    out.print(f"  {name}: {found[0]}", markup=False, highlight=False)
    out.print()
    out.print(table)


if __name__ == "__main__":
    main()
