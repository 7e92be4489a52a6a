"""From files of rows to examples: read and judge, mark what stands twice, choose, credit, write."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from assistant.base_model import Say
from assistant.console import bar
from assistant.dialogue import Dialogue, Message, Role
from assistant.errors import ThousandError
from assistant.jsonl import Problem, write_records
from assistant.provenance import Provenance, Work
from train.data.curate import items
from train.data.curate.choose import choose
from train.data.curate.cores import cores
from train.data.curate.explain import fate, told
from train.data.curate.files import size_of, usable
from train.data.curate.items import DUPLICATES, Kind
from train.data.curate.judge import code_stamp
from train.data.curate.report import CHAINS, Curated, refuse_existing

_WORTH_CORES = 8_000_000
"""Bytes."""


def stage(kind: Kind, sources: Sequence[Path], folder: Path) -> tuple[Path, list[Problem]]:
    """Read and judge the files, from where an earlier run was left; the database, and the files that cannot be read.

    Raises BadData where one has not the columns, or none can be read.
    """
    files, bad = usable(list(dict.fromkeys(sources)), kind.wanted)
    path = folder / "work" / f"{kind.name}.sqlite"
    offsets = items.begin(path, files, f"{kind.judge!r} {code_stamp()}")
    sizes = {file: size_of(file) for file in files}
    total = max(1, sum(sizes.values()))
    percent = 100 * sum(offsets.values()) // total
    with (
        cores(sum(file.stat().st_size for file in files) > _WORTH_CORES) as pool,
        bar("Reading (%)", percent) as advance,
    ):
        before = 0
        for file in files:

            def step(offset: int, file: Path = file, before: int = before) -> None:
                nonlocal percent
                now = min(100, 100 * (before + offset) // total)
                if now > percent:
                    percent = now
                    advance(percent, 100, file.name)

            items.stage(path, file, kind, pool, step)
            before += sizes[file]
    items.mark_duplicates(path)
    return path, bad


def _dialogue(kind: Kind, path: Path, identifier: str, turns: int | None = None) -> Dialogue:
    item = items.kept(path, identifier)
    works = tuple(dict.fromkeys(Work(**credit) for credit in item.credits[:turns]))
    licenses = sorted({work.license for work in works if work.license})
    said = item.said[:turns]
    roles: tuple[Role, Role] = ("user", "assistant")
    return Dialogue(
        id=identifier if turns else f"{identifier}-chain",
        source=f"{kind.name}/{item.place.rpartition(':')[0]}",
        topic=item.part,
        license=" AND ".join(licenses) or None,
        messages=tuple(Message(role=roles[i % 2], content=text) for i, text in enumerate(said)),
        provenance=Provenance(file=item.place, works=works or None, changes=kind.changes),
    )


def curate(kind: Kind, sources: Sequence[Path], folder: Path, number: int, chains: int, seed: int, say: Say) -> Curated:
    """Make the file of examples, named after the kind, and, where there are longer ones, `to-edit/chains.jsonl` in a folder.

    Raises ThousandError when they are there already, or nothing can be read.
    """
    selected = f"{kind.name}.jsonl"
    refuse_existing(folder, selected, CHAINS)
    path, bad = stage(kind, sources, folder)
    choice = choose(items.parts(path), {"": number}, seed, say)
    chosen = [candidate.id for candidate in choice.chosen]
    longer = items.longest(path, chains, chosen)
    if longer:
        write_records(folder / CHAINS, [_dialogue(kind, path, identifier) for identifier in longer])
    if chosen:
        write_records(folder / selected, [_dialogue(kind, path, identifier, turns=2) for identifier in chosen])
    told, skipped = items.problems_of(path)
    drops = {**kind.rules, **DUPLICATES}
    funnels = items.funnels(path, list(drops))
    problems = [*map(str, bad), *told]
    return Curated(
        funnels, dict.fromkeys(funnels, ""), drops, choice, folder / selected, len(longer), problems, skipped + len(bad)
    )


def explain(
    kind: Kind, sources: Sequence[Path], folder: Path, number: int, seed: int, identifier: str, say: Say
) -> Iterator[str]:
    """What each rule says of a row, a line each, and what became of it. Raises ThousandError when there is no such row."""
    path, _ = stage(kind, sources, folder)
    known = items.place_and_verdict(path, identifier)
    if known is None:
        some = ", ".join(items.some_ids(path))
        raise ThousandError(f"No row that could be read has the id {identifier!r}; there are ids such as {some}.")
    place, rule, found = known
    name, _, line = place.rpartition(":")
    file = next(source for source in sources if source.name == name)
    yield from (told(*finding) for finding in kind.judge.findings(items.rows_at(file, kind, int(line))))
    if rule is None:
        yield fate(choose(items.parts(path), {"": number}, seed, say), identifier)
    elif rule in DUPLICATES:
        yield told(rule, found)
