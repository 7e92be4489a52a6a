"""What constraints.yaml needs of this project: the prompts that come along, and their checks."""

from typing import Any

from assistant.checks import Checks
from assistant.dialogue import read_dialogues
from assistant.settings import bundled
from evaluation.constraints import failed_loosely


def load(**_: object) -> dict[str, Any]:
    """The prompts, as the harness reads a data set."""
    from datasets import Dataset  # comes with the harness

    prompts = read_dialogues([bundled("dialogues") / "constraints_test.jsonl"], held_out=True)
    asked = [
        {"prompt": one.messages[-1].content, "checks": one.checks.model_dump_json(exclude_none=True)}
        for one in prompts
        if one.checks
    ]
    return {"test": Dataset.from_list(asked)}


def score(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether the answer passes, strictly and loosely."""
    checks = Checks.model_validate_json(doc["checks"])
    (answer,) = results
    empty = not (answer or "").strip()
    return {
        "prompts_strict": float(not empty and not checks.failed(answer)),
        "prompts_loose": float(not empty and not failed_loosely(checks, answer)),
    }
