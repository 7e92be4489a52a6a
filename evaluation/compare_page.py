"""A comparison for people: a table side by side, and a page with every pair of answers."""

from rich.table import Table

from evaluation import tables
from evaluation.compare import ComparedSet, Comparison
from evaluation.guard import Reason, guard
from evaluation.intervals import HOW
from evaluation.tables import changed_remark, markdown_answers, markdown_table

TITLES = {"dev": "Dev prompts", "conversations": "Scripted conversations", "safety": "Safety prompts"}


def rows(comparison: Comparison) -> list[list[str]]:
    """Set, measure, how many prompts, candidate, current, and the difference."""
    return [
        [
            compared.name if number == 0 else "",
            measure.name,
            str(measure.prompts),
            str(measure.candidate),
            str(measure.current),
            f"{measure.difference.mean:+.3g} [{measure.difference.low:+.3g}, {measure.difference.high:+.3g}]",
        ]
        for compared in comparison.sets
        for number, measure in enumerate(compared.measures)
    ]


def head(comparison: Comparison) -> list[str]:
    return ["set", "measure", "n", comparison.candidate.name, comparison.current.name, "difference"]


def table(comparison: Comparison) -> Table:
    """Every measure of both with its 95 % interval, and their difference over the same prompts with its own."""
    shown = Table(*head(comparison), box=None)
    for row in rows(comparison):
        shown.add_row(*row)
    return shown


def remarks(comparison: Comparison) -> list[str]:
    """What a reader of the numbers must know, a line each."""
    first, second = comparison.candidate, comparison.current
    lines = []
    for compared in comparison.sets:
        both = {first.name: compared.candidate, second.name: compared.current}
        lines += tables.remarks(compared.name, compared.scripts, compared.left_out, both)
    return lines + changed_remark(first.name, first.changed) + changed_remark(second.name, second.changed)


def verdict(comparison: Comparison, reasons: list[Reason]) -> str:
    """What the guard says, in a sentence or one for each reason."""
    if reasons:
        return f"Against promoting {comparison.candidate.name}:\n" + "\n".join(f"- {one.sentence}" for one in reasons)
    return f"Nothing that was measured stands against promoting {comparison.candidate.name}."


def _failures(compared: ComparedSet, comparison: Comparison) -> list[str]:
    """How many conversations fail first at each turn."""
    first, second = compared.first_failures["candidate"], compared.first_failures["current"]
    turns = sorted({*first, *second})
    body = [[str(turn), str(first.get(turn, 0)), str(second.get(turn, 0))] for turn in turns]
    head = ["turn of the first failure", comparison.candidate.name, comparison.current.name]
    return ["", *markdown_table(head, body)] if turns else []


def markdown(comparison: Comparison) -> str:
    """The page: numbers, what to know of them, what the guard says, and both answers to every prompt."""
    candidate, current = comparison.candidate, comparison.current
    lines = [
        f"# {candidate.name} against {current.name}",
        "",
        f"{candidate.name}: {candidate.sampling.model_dump_json()}",
        "",
        f"{current.name}: {current.sampling.model_dump_json()}",
        "",
        f"Means with their {HOW}; the difference is over the same prompts, prompt by prompt (conversation by "
        "conversation). One answer a prompt.",
        "",
        *markdown_table(head(comparison), rows(comparison)),
        "",
        verdict(comparison, guard(comparison)),
        *[line for remark in remarks(comparison) for line in ("", remark)],
    ]
    for compared in comparison.sets:
        lines += ["", f"## {TITLES[compared.name]}", "", f"{compared.file}, SHA-256 `{compared.sha256[:16]}`"]
        if compared.first_failures:
            lines += _failures(compared, comparison)
        lines += markdown_answers(
            compared.scripts, {candidate.name: compared.candidate, current.name: compared.current}
        )
    return "\n".join(lines) + "\n"
