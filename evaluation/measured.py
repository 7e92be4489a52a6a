"""What was measured of a release on a set that comes along, beside whom, and every answer: a file in the release's folder, for its report."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from assistant import __version__, release
from assistant.errors import ThousandError
from assistant.files import write_text
from assistant.held_out import ScriptedConversation
from evaluation.sets import PromptSet, Reply, SetName
from evaluation.systems import Asked

if TYPE_CHECKING:
    from evaluation.side_by_side import Judged


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MeasuredSystem(Asked):
    """One system on the set."""

    scores: dict[str, Any]
    replies: tuple[tuple[Reply, ...], ...]
    """For each prompt, what came of each turn."""


class Measured(_Model):
    """The record of one set."""

    set: SetName
    file: str
    sha256: str
    made: datetime
    version: str
    adapter_sha256: str
    scripts: tuple[ScriptedConversation, ...]
    systems: tuple[MeasuredSystem, ...]
    """The release, and then those that were asked beside it."""


def _file(place: Path, name: SetName) -> Path:
    return place / f"measured-{name}.json"


def keep(asked: PromptSet, own: "Judged", others: Sequence["Judged"]) -> None:
    """Write what a release and those beside it said to a set into the release's folder; who was asked there before by the same
    prompts is kept."""
    place = release.path(own.system.name)
    systems = [
        MeasuredSystem(**dict(one.system.asked), scores=one.scores, replies=tuple(map(tuple, one.replies)))
        for one in (own, *others)
    ]
    before = read(place, asked.name)
    if before is not None and before.sha256 == asked.sha256:
        named = {system.name for system in systems}
        systems += [system for system in before.systems if system.name not in named]
    found = Measured(
        set=asked.name,
        file=asked.file.name,
        sha256=asked.sha256,
        made=release.now(),
        version=__version__,
        adapter_sha256=release.read(place).adapter_sha256,
        scripts=asked.scripts,
        systems=tuple(systems),
    )
    write_text(_file(place, asked.name), found.model_dump_json(indent=1) + "\n")


def read(place: Path, name: SetName) -> Measured | None:
    """What was measured of the release in a folder; None when nothing was, or of another release that had its name.

    Raises ThousandError when the file is damaged.
    """
    file = _file(place, name)
    if not file.exists():
        return None
    try:
        found = Measured.model_validate_json(file.read_bytes())
    except ValidationError:
        raise ThousandError(
            f"{file} is damaged; measure it again with: thousand evaluate {name} --release {place.name}"
        ) from None
    return found if found.adapter_sha256 == release.read(place).adapter_sha256 else None
