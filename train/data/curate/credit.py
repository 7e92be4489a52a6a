"""What CC BY-SA asks to be said of the texts that an example was made from: who wrote them, where they stand, under which licence."""

from collections.abc import Iterable

from assistant.jsonl import Problem
from assistant.provenance import Provenance, Work
from train.data.curate.dump import Table, read_blocks
from train.data.curate.posts import Text
from train.data.curate.rows import rows
from train.data.curate.sites import domain

CHANGES = "made into Markdown; links, images and markup removed"


def license_of(text: Text) -> str:
    """The licence of a text: what the dump says, else by its date (https://stackoverflow.com/help/licensing)."""
    if text.license:
        return text.license.strip().upper().replace("CC BY-SA ", "CC-BY-SA-")
    if text.date[:10] < "2011-04-08":
        return "CC-BY-SA-2.5"
    return "CC-BY-SA-3.0" if text.date[:10] < "2018-05-02" else "CC-BY-SA-4.0"


def names(table: Table, wanted: set[str], problems: list[Problem]) -> dict[str, str]:
    """What the table Users calls the authors with the numbers `wanted`; what cannot be read of it is added to `problems`."""
    found: dict[str, str] = {}
    for block in read_blocks(table):
        if isinstance(block, Problem):
            problems.append(block)
            continue
        for row in rows(block, table.where, problems):
            if row.values.get("Id") in wanted:
                found[row.values["Id"]] = row.values.get("DisplayName", "")
    return found


def work(site: str, kind: str, number: int, text: Text, known: dict[str, str]) -> Work:
    """The credit of one question (`q`), answer (`a`) or comment (`posts/comments`)."""
    author = text.name or known.get(text.owner) or (f"user {text.owner}" if text.owner else "an author who has left")
    page = f"https://{domain(site)}/users/{text.owner}" if text.owner else None
    return Work(url=f"https://{domain(site)}/{kind}/{number}", author=author, author_url=page, license=license_of(text))


def provenance(works: Iterable[Work], changes: str = CHANGES) -> tuple[Provenance, str]:
    """Where an example comes from, and its own licence: the newest of its texts', which their licences allow for a change of them."""
    found = tuple(works)
    return Provenance(works=found, changes=changes), max(str(work.license) for work in found)
