"""A Stack Exchange dump as training examples, by the LIMA paper's section 2: read, judge, choose, credit, write."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from assistant.base_model import Say
from assistant.console import bar
from assistant.dialogue import Dialogue, Message, Role
from assistant.errors import ThousandError
from assistant.jsonl import Problem, write_records
from train.data.curate.chains import find_chains
from train.data.curate.choose import Candidate, Part, choose
from train.data.curate.cores import cores
from train.data.curate.credit import names, provenance, work
from train.data.curate.dump import Table, TableName, find_tables
from train.data.curate.judge import best_of, funnel, judge_site, to_judge
from train.data.curate.posts import Text, unpack_text
from train.data.curate.report import CHAINS, Curated, refuse_existing
from train.data.curate.rows import BLOCK
from train.data.curate.rules import ANSWER_SCORE, QUESTION_SCORE, RULES
from train.data.curate.sites import group, unusable
from train.data.curate.staging import MOST_PROBLEMS, blocks_of, blocks_read, database, prepare, problems_of, read

SELECTED = "stackexchange.jsonl"
_WORTH_CORES = 2 * BLOCK
DROPS = {
    "question-score": f"questions with a score under {QUESTION_SCORE}",
    "answer-score": f"questions whose top answer has a score under {ANSWER_SCORE}",
    **{rule.name: rule.drops for rule in RULES},
}

Sites = Mapping[str, Mapping[TableName, Table]]


def _database(folder: Path, site: str) -> Path:
    return folder / "work" / f"{site}.sqlite"


def sites_of(sources: Sequence[Path], say: Say) -> tuple[dict[str, dict[TableName, Table]], list[Problem]]:
    """The sites of a dump that can be used, and what of `sources` is no dump. Raises ThousandError when there is none."""
    sites, bad = find_tables(sources)
    for site in list(sites):
        why = unusable(site)
        if why:
            say(f"{site} is left out: {why}")
            del sites[site]
    if not sites:
        raise ThousandError("None of the sites can be used; give one that is in English and no meta site.")
    return sites, bad


def stage(sites: Sites, folder: Path, say: Say) -> dict[str, Path]:
    """Read and judge every site, from where an earlier run was left; the database of each."""
    databases = {site: _database(folder, site) for site in sites}
    # Comments after posts: only those on top answers are kept.
    read_ones = [tables[name] for tables in sites.values() for name in ("Posts", "Comments") if name in tables]
    for site, tables in sites.items():
        prepare(databases[site], dict(tables), say)
    with cores(sum(table.size for table in read_ones) > _WORTH_CORES) as pool:
        total = sum(map(blocks_of, read_ones))
        with bar("Reading (blocks of 4 MB)", sum(blocks_read(databases[t.site], t) for t in read_ones)) as advance:
            before = 0
            for table in read_ones:

                def at(offset: int, table: Table = table, before: int = before) -> None:
                    advance(before + blocks_of(table, offset), total, table.site)

                read(databases[table.site], table, pool, at)
                before += blocks_of(table)
        counts = list(map(to_judge, databases.values()))
        done, total = sum(judged for judged, _ in counts), sum(all_ for _, all_ in counts)

        def step() -> None:
            nonlocal done
            done += 1
            advance(min(done, total), total, beside)

        with bar("Judging (hundreds)", done) as advance:
            for site, path in databases.items():
                beside = site
                judge_site(path, pool, step)
    return databases


def _texts(path: Path, question: int) -> tuple[int, Text, Text]:
    """The number of a question's top answer, and both texts."""
    with database(path) as found:
        answer, asked, answered = found.execute(
            "SELECT t.answer, q.packed, a.packed FROM tops t JOIN questions q ON q.id = t.question"
            " JOIN answers a ON a.id = t.answer WHERE t.question = ?",
            (question,),
        ).fetchone()
    return answer, unpack_text(asked), unpack_text(answered)


def _number(candidate: Candidate) -> int:
    return int(candidate.id.rpartition("-")[2])


def _known(
    sites: Sites, owners: Iterable[tuple[str, str]], problems: list[Problem]
) -> defaultdict[str, dict[str, str]]:
    """By site the names of authors by their numbers, where its table of users is there."""
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    for site, owner in owners:
        wanted[site].add(owner)
    known: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for site in sorted(wanted):
        if "Users" in sites[site]:
            known[site] = names(sites[site]["Users"], wanted[site], problems)
    return known


def _dialogue(candidate: Candidate, texts: tuple[int, Text, Text], known: dict[str, str]) -> Dialogue:
    """A chosen one with its credits."""
    site, (answer, asked, answered) = candidate.part, texts
    where, licence = provenance(
        [work(site, "q", _number(candidate), asked, known), work(site, "a", answer, answered, known)]
    )
    roles: tuple[Role, Role] = ("user", "assistant")
    return Dialogue(
        id=candidate.id,
        source=f"stackexchange/{site}",
        topic=group(site),
        license=licence,
        messages=tuple(Message(role=role, content=text) for role, text in zip(roles, candidate.said, strict=True)),
        provenance=where,
    )


def parts(databases: Mapping[str, Path], seed: int) -> list[Part]:
    """What is chosen from: the sites with what the rules leave of them."""
    return [
        Part(site, group(site), funnel(path).left, partial(best_of, path, site, seed))
        for site, path in databases.items()
    ]


def curate(
    sites: Sites,
    bad: Sequence[Problem],
    folder: Path,
    wanted: Mapping[str, int],
    most_chains: int,
    seed: int,
    say: Say,
) -> Curated:
    """Make `stackexchange.jsonl` and `to-edit/chains.jsonl` in a folder; `bad` is what else was given and is no dump.

    Raises ThousandError when they are there already, or when nothing is left of the dump.
    """
    refuse_existing(folder, SELECTED, CHAINS)
    databases = stage(sites, folder, say)
    choice = choose(parts(databases, seed), wanted, seed, say)
    taken = {candidate.id for candidate in choice.chosen}
    chains = [chain for site, path in databases.items() for chain in find_chains(site, path, most_chains, taken)]
    chains = sorted(chains, key=lambda chain: -len(chain.said))[:most_chains]
    texts = {candidate.id: _texts(databases[candidate.part], _number(candidate)) for candidate in choice.chosen}
    owners = [(candidate.part, text.owner) for candidate in choice.chosen for text in texts[candidate.id][1:]]
    owners += [(chain.site, owner) for chain in chains for owner in chain.owners]
    nameless: list[Problem] = []
    known = _known(sites, owners, nameless)
    if chains:
        write_records(folder / CHAINS, [chain.dialogue(known[chain.site]) for chain in chains])
    if choice.chosen:
        by_site = sorted(choice.chosen, key=lambda candidate: candidate.part)
        write_records(folder / SELECTED, [_dialogue(one, texts[one.id], known[one.part]) for one in by_site])
    told = [problems_of(path) for path in databases.values()]
    return Curated(
        funnels={site: funnel(path) for site, path in databases.items()},
        groups={site: group(site) for site in databases},
        drops=DROPS,
        choice=choice,
        selected=folder / SELECTED,
        chains=len(chains),
        problems=[*map(str, bad), *(line for lines, _ in told for line in lines), *map(str, nameless[:MOST_PROBLEMS])],
        skipped=len(bad) + sum(count for _, count in told) + len(nameless),
    )
