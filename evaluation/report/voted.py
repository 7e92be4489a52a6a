"""Votes of people and of judge models on a release's answers."""

from assistant.release import Release
from assistant.settings import settings
from evaluation.report.blocks import Block, Grid, Section, Words
from evaluation.voting import words
from evaluation.voting.result import read_preferences


def votes(record: Release) -> Section:
    """Preferences, grades and safety votes in which the release takes part, and not another one that had its name."""
    damaged: list[str] = []
    own = (record.name, record.adapter_sha256)
    found = [
        one
        for one in read_preferences(settings().home, lambda error: damaged.append(str(error)))
        if own in [(system.name, system.adapter_sha256) for system in one.systems]
    ]
    blocks: list[Block] = []
    for one in found:
        head, body = words.rows(one)
        blocks += [Words(words.heading(one)), Grid(head, body), *map(Words, words.lines(one))]
    commands = {
        "preference": f"preference, by a person or a model: not judged; thousand evaluate prefer {record.name} base",
        "grade": f"grades, by a person or a model: not judged; thousand evaluate grade {record.name}",
        "safety": f"safety, by a person or a model: not judged; thousand evaluate grade {record.name} --set safety",
    }
    judged = {one.scale for one in found if any(tally.prompts and tally.kind != "rules" for tally in one.tallies)}
    return Section("Votes", blocks, [*damaged, *[what for scale, what in commands.items() if scale not in judged]])
