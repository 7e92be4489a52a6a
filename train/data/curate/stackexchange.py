"""A Stack Exchange dump as training examples, by the LIMA paper's section 2: read, judge, choose, credit, write."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table as Printed

from assistant.base_model import Say
from assistant.console import bar
from assistant.dialogue import Dialogue, Message
from assistant.errors import ThousandError
from assistant.jsonl import write_records
from train.data.curate.chains import find_chains
from train.data.curate.choose import Candidate, Choice, choose
from train.data.curate.cores import cores
from train.data.curate.credit import names, provenance, work
from train.data.curate.dump import Table, TableName, find_tables
from train.data.curate.judge import Funnel, funnel, judge_site, to_judge
from train.data.curate.posts import Text, unpack_text
from train.data.curate.rows import BLOCK
from train.data.curate.rules import ANSWER_SCORE, QUESTION_SCORE, RULES
from train.data.curate.sites import Group, group, unusable
from train.data.curate.staging import database, prepare, problems_of, read

SELECTED = "stackexchange.jsonl"
CHAINS = "to-edit/chains.jsonl"
_WORTH_CORES = 2 * BLOCK


@dataclass(frozen=True)
class Curated:
    """What came of a dump."""

    funnels: dict[str, Funnel]
    """By site."""
    choice: Choice
    chains: int
    problems: list[str]
    """Those that are told."""
    skipped: int
    """Rows and tables that could not be used, all of them."""


Sites = Mapping[str, Mapping[TableName, Table]]


def _database(folder: Path, site: str) -> Path:
    return folder / "work" / f"{site}.sqlite"


def sites_of(sources: Sequence[Path], say: Say) -> dict[str, dict[TableName, Table]]:
    """The sites of a dump that can be used. Raises ThousandError when there is none."""
    sites = find_tables(sources)
    for site in list(sites):
        why = unusable(site)
        if why:
            say(f"{site} is left out: {why}")
            del sites[site]
    if not sites:
        raise ThousandError("None of the sites can be used; give one that is in English and no meta site.")
    return sites


def stage(sites: Sites, folder: Path, say: Say) -> dict[str, Path]:
    """Read and judge every site, from where an earlier run was left; the database of each."""
    databases = {site: _database(folder, site) for site in sites}
    size = sum(tables[name].size for tables in sites.values() for name in tables if name != "Users")
    with cores(size > _WORTH_CORES) as pool:
        total = sum(-(-t.size // BLOCK) for tables in sites.values() for t in tables.values() if t.name != "Users")
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            advance(min(done, total), total, beside)

        with bar("Reading (blocks of 4 MB)") as advance:
            for site, tables in sites.items():
                prepare(databases[site], dict(tables), say)
                beside = site
                for name in ("Posts", "Comments"):
                    if name in tables:
                        read(databases[site], tables[name], pool, step)
        total, done = sum(map(to_judge, databases.values())), 0
        with bar("Judging (hundreds)") as advance:
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


def _dialogues(chosen: Sequence[Candidate], sites: Sites, databases: Mapping[str, Path]) -> list[Dialogue]:
    """The chosen ones with their credits."""
    texts = {candidate.id: _texts(databases[candidate.site], candidate.question) for candidate in chosen}
    made = []
    for site in sorted({candidate.site for candidate in chosen}):
        ours = [candidate for candidate in chosen if candidate.site == site]
        owners = {text.owner for candidate in ours for text in texts[candidate.id][1:]}
        known = names(sites[site]["Users"], owners) if "Users" in sites[site] else {}
        for candidate in ours:
            answer, asked, answered = texts[candidate.id]
            credits = [
                work(site, "q", candidate.question, asked, known),
                work(site, "a", answer, answered, known),
            ]
            where, licence = provenance(credits)
            messages = (
                Message(role="user", content=candidate.prompt),
                Message(role="assistant", content=candidate.answer),
            )
            made.append(
                Dialogue(
                    id=candidate.id,
                    source=f"stackexchange/{site}",
                    topic=group(site),
                    license=licence,
                    messages=messages,
                    provenance=where,
                )
            )
    return made


def curate(sites: Sites, folder: Path, wanted: Mapping[Group, int], chains: int, seed: int, say: Say) -> Curated:
    """Make `stackexchange.jsonl` and `to-edit/chains.jsonl` in a folder.

    Raises ThousandError when they are there already, or when nothing is left of the dump.
    """
    for name in (SELECTED, CHAINS):
        if (folder / name).exists():
            raise ThousandError(f"{folder / name} exists already; give another folder, or remove it first.")
    databases = stage(sites, folder, say)
    choice = choose(databases, wanted, seed, say)
    told = [problems_of(path) for path in databases.values()]
    problems, skipped = [line for lines, _ in told for line in lines], sum(count for _, count in told)
    found = [dialogue for site, path in databases.items() for dialogue in find_chains(site, path, chains)]
    found = sorted(found, key=lambda dialogue: -len(dialogue.messages))[:chains]
    if found:
        write_records(folder / CHAINS, found)
    if choice.chosen:
        write_records(folder / SELECTED, _dialogues(choice.chosen, sites, databases))
    return Curated({site: funnel(path) for site, path in databases.items()}, choice, len(found), problems, skipped)


def funnel_table(curated: Curated) -> Printed:
    """How many questions come to each rule, how many it drops, and how many it leaves."""
    total = sum(curated.funnels.values(), Funnel(0, {}))
    near = Counter(rule for rule, _ in curated.choice.reasons.values())
    drops = {
        "question-score": f"questions with a score under {QUESTION_SCORE}",
        "answer-score": f"questions whose top answer has a score under {ANSWER_SCORE}",
        **{rule.name: rule.drops for rule in RULES},
        "lower-scores": "what is not among the highest scores of its site",
    }
    steps = {**total.dropped, "lower-scores": total.left - curated.choice.looked_at}
    steps |= {rule: near[rule] for rule in sorted(near) if rule != "selection"} | {"selection": near["selection"]}
    drops["selection"] = "what is nearer to others, over the number wanted"
    table = Printed("rule", "drops", "come", "dropped", "left", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    left = total.questions
    for rule, dropped in steps.items():
        table.add_row(rule, drops.get(rule, "as in the audit"), f"{left:,}", f"{dropped:,}", f"{left - dropped:,}")
        left -= dropped
    return table


def sites_table(curated: Curated) -> Printed:
    """What each site gave."""
    table = Printed("site", "group", "questions", "left by the rules", "selected", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    selected = Counter(candidate.site for candidate in curated.choice.chosen)
    for site, found in curated.funnels.items():
        table.add_row(site, group(site), f"{found.questions:,}", f"{found.left:,}", f"{selected[site]:,}")
    return table
