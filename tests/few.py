"""A little of a set that comes along, for commands that would ask the whole of it."""

import json
from pathlib import Path

from assistant.settings import bundled

TRAINED_SHORT = ["--set epochs=0.004", "--set dialogues_per_step=2", "--set dev_tokens=8"]
"""Two steps of two dialogues of the data that comes along."""


def few(folder: Path, name: str) -> Path:
    """A file with the first two records of a set, of conversations with the first two turns of the first."""
    file = folder / f"few-{name}.jsonl"
    lines = (bundled("dialogues") / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:2]
    if name == "multiturn_test":
        talk = json.loads(lines[0])
        lines = [json.dumps(talk | {"turns": talk["turns"][:2]}) + "\n"]
    file.write_text("".join(lines), encoding="utf-8")
    return file
