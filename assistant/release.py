"""Releases and their registry.

A release is a folder that plain transformers and peft load: the adapter, the tokenizer with its Jinja template, the
generation defaults, and `release.json` with everything that made it. The registry says which one is current.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from assistant import base_model
from assistant.base_model import Say
from assistant.errors import ThousandError
from assistant.files import atomic_folder, write_text
from assistant.model_card import model_card
from assistant.sampling import Sampling
from assistant.settings import bundled, settings
from assistant.template import SPECIAL, StopRule, Template, special_token
from assistant.vocabulary import Vocabulary

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
ADAPTER = "adapter_model.safetensors"
WHOLE_MODEL = "model.safetensors"
RECORD = "release.json"
REPORT = "report.html"
"""The page about it, where `thousand evaluate report` has written one."""


class DataFile(BaseModel):
    """One file that a release was trained on."""

    model_config = ConfigDict(extra="forbid")

    name: str
    sha256: str
    dialogues: int
    tokens: int
    supervised_tokens: int


class Override(BaseModel):
    """A person promoted a release in spite of what stands against it."""

    model_config = ConfigDict(extra="forbid")

    why: str
    when: datetime
    by: str | None = None
    """The name of the key that it was done with on the page; None for somebody at this machine."""


class Guard(BaseModel):
    """What stands between a retrained release and its promotion; one that was made by `thousand train` has none."""

    model_config = ConfigDict(extra="forbid")

    against: str
    """The release that it is to replace."""
    compared: datetime | None = None
    """When it was compared with that one."""
    reasons: list[str] = []
    """In what it is worse, by more than another seed would change it."""
    override: Override | None = None

    @property
    def blocks(self) -> list[str]:
        """Why it is not promoted without an override."""
        if self.compared is None:
            return [f"it has not been compared with {self.against} yet (thousand retrain does that)"]
        return self.reasons


class Release(BaseModel):
    """What is known of a release; saved as `release.json` in its folder."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=f"^{NAME.pattern}$")
    created: datetime
    version: str
    """The version of Thousand that trained it."""
    base: str
    base_checksum: str
    vocabulary: Vocabulary = "full"
    """What it was trained with and is served with. The tokenizer in its folder, and so `template`, is the whole one in either
    case: other tools load the adapter on the whole base."""
    method: Literal["lora", "full"] = "lora"
    """An adapter for the base, or a whole model that needs no base."""
    template: dict[str, Any]
    recipe: dict[str, Any]
    data: list[DataFile]
    cut: list[str] = []
    """Dialogues that did not fit whole, each with its place and what was left out."""
    training: dict[str, FiniteFloat] = {}
    """Steps, epochs, seconds, tokens per second, last loss."""
    checkpoints: list[dict[str, Any]] = []
    """What each checkpoint of the run scored on the dev prompts."""
    chosen_step: int | None = None
    """The optimizer step whose weights these are."""
    adapter_sha256: str
    """Of the adapter, or of the whole model's weights."""
    sampling: Sampling = Sampling()
    scores: dict[str, Any] = {}
    guard: Guard | None = None

    @property
    def base_name(self) -> str:
        """The base model as others may be told of it: a path on this machine only by its last part."""
        return Path(self.base).name if self.base.startswith("/") else self.base


def now() -> datetime:
    """The time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def folder() -> Path:
    """Where releases live."""
    return settings().home / "releases"


def path(name: str, say: Say = base_model.quiet) -> Path:
    """The folder of an installed release. Raises ThousandError naming the nearest one when there is none."""
    place = folder() / name
    if NAME.fullmatch(name):
        if not (place / RECORD).exists() and name in bundled_names():
            install_bundled(say)
        if (place / RECORD).exists():
            return place
    near = get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]}?" if near else "see: thousand releases list"
    raise ThousandError(f"There is no release {name!r}; {hint}")


def read(place: Path) -> Release:
    """The record of the release in a folder. Raises ThousandError when it is missing or broken."""
    try:
        release = Release.model_validate_json((place / RECORD).read_bytes())
    except (OSError, ValidationError) as error:
        problem = str(error).splitlines()[0]
    else:
        if release.name == place.name:
            return release
        problem = f"its record is that of {release.name}"
    raise ThousandError(f"{place} is no whole release: {problem}. Remove the folder, or install the release again.")


def write(place: Path, release: Release) -> None:
    """Replace a release's record, and the model card made from it."""
    write_text(place / RECORD, release.model_dump_json(indent=2) + "\n")
    write_text(place / "README.md", model_card(release))


def names() -> list[str]:
    """Installed releases, oldest first."""
    install_bundled()
    found = [read(place) for place in _places()]
    return [release.name for release in sorted(found, key=lambda release: (release.created, release.name))]


def _places() -> list[Path]:
    if not folder().is_dir():
        return []
    return [place for place in folder().iterdir() if NAME.fullmatch(place.name) and (place / RECORD).exists()]


def installed() -> list[str]:
    """The names of the releases here, none of them read: a broken one may be among them."""
    return sorted(place.name for place in _places())


def whole_ones() -> list[Release]:
    """The records of the releases here, oldest first, but for broken ones: for a list that must not fail over one of them."""
    found = []
    for place in _places():
        with suppress(ThousandError):
            found.append(read(place))
    return sorted(found, key=lambda release: (release.created, release.name))


def save_tokenizer(place: Path, tokenizer_folder: Path, sampling: Sampling, stop: StopRule) -> Template:
    """Put into a folder what plain transformers needs to talk with a release: tokenizer, Jinja template, generation defaults."""
    template = Template.load(tokenizer_folder, stop)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer_folder / file, place / file)
    config = json.loads((place / "tokenizer_config.json").read_text(encoding="utf-8"))
    config.pop("chat_template", None)
    for kind in SPECIAL:
        config.setdefault(f"{kind}_token", special_token(tokenizer_folder, kind, template.tokenizer))
    write_text(place / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")
    write_text(place / "chat_template.jinja", template.jinja())
    generation = {
        "do_sample": sampling.temperature > 0,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "repetition_penalty": sampling.repetition_penalty,
        "max_new_tokens": sampling.max_tokens,
        "eos_token_id": template.stop_id,
    }
    write_text(place / "generation_config.json", json.dumps(generation, indent=2) + "\n")
    return template


def _install(source: Path, say: Say) -> None:
    release = read(source)
    base = base_model.resolve(release.base, say)
    if base.checksum != release.base_checksum:
        raise ThousandError(
            f"The release {release.name} was trained on another {release.base} than the one here; it cannot be used with it."
        )
    with atomic_folder(folder() / release.name) as temporary:
        for file in source.iterdir():
            shutil.copyfile(file, temporary / file.name)
        if release.method == "lora":  # a whole model brings its own
            save_tokenizer(temporary, base.folder, release.sampling, release.template["stop_rule"])


def bundled_names() -> list[str]:
    """The names of the releases that come along, installed or not."""
    return sorted(source.name for source in bundled("releases").iterdir() if (source / RECORD).exists())


def install_bundled(say: Say = base_model.quiet) -> None:
    """Put the release that comes along into the registry, once; without any current release it becomes the current one."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with FileLock(folder() / "registry.lock"):
            names = bundled_names()
            for name in names:
                if not (folder() / name).exists():
                    _install(bundled("releases") / name, say)
            if names and not history():
                _write_history([names[-1]])
    except OSError as error:
        raise base_model.disk_error(error, folder()) from error


class _Registry(BaseModel):
    """`registry.json`: the releases that were promoted, the current one last."""

    model_config = ConfigDict(extra="forbid")

    promoted: list[str]


def history() -> list[str]:
    """The releases that were promoted, in that order; the current one is the last. Raises ThousandError when that is damaged."""
    file = folder() / "registry.json"
    if not file.exists():
        return []
    try:
        return _Registry.model_validate_json(file.read_bytes()).promoted
    except ValidationError:
        raise ThousandError(f"{file} is damaged; remove it, then: thousand releases promote NAME") from None


def _write_history(promoted: list[str]) -> None:
    write_text(folder() / "registry.json", json.dumps({"promoted": promoted}, indent=2) + "\n")


def registry_stamp() -> tuple[int, int] | None:
    """What is another after every promotion and rollback, also of the same release; None while nothing was promoted.

    The file is replaced each time, so its inode and time tell, and to ask often costs nothing.
    """
    try:
        found = (folder() / "registry.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


@contextmanager
def _locked_history() -> Iterator[list[str]]:
    install_bundled()
    with FileLock(folder() / "registry.lock"):
        promoted = history()
        yield promoted
        _write_history(promoted)


def current_or_none() -> str | None:
    """The name of the release that chats, if there is one."""
    promoted = history()
    return promoted[-1] if promoted else None


def current(say: Say = base_model.quiet) -> str:
    """The name of the release that chats. Raises ThousandError when there is none."""
    chosen = current_or_none()
    if chosen is None:
        install_bundled(say)
        chosen = current_or_none()
    if chosen is not None:
        return chosen
    made = names()
    if made:
        raise ThousandError(f"No release is current yet; choose one with: thousand releases promote {made[-1]}")
    raise ThousandError("There is no release yet; make one with: thousand train")


class Blocked(ThousandError):
    """A retrained release is worse than the one it is to replace, or has not been compared with it."""


def promote(name: str, override: str | None = None, by: str | None = None) -> str | None:
    """Make a release the current one; returns the one it replaces, None when it already was current.

    `override` says why it is promoted in spite of what its guard says; that is kept in its record. Raises Blocked without
    it, and ThousandError for one that overrides nothing.
    """
    place = path(name)
    with _locked_history() as promoted:
        before = promoted[-1] if promoted else None
        if before == name:
            return None
        _pass_guard(place, override, by)
        promoted.append(name)
        return before


def _pass_guard(place: Path, why: str | None, by: str | None) -> None:
    record = read(place)
    blocks = record.guard.blocks if record.guard else []
    if record.guard is None or not blocks:
        if why is not None:
            raise ThousandError(f"Nothing stands against promoting {record.name}, so there is nothing to override.")
        return
    if why is None or not why.strip():
        raise Blocked(
            f"{record.name} is not promoted: {'; '.join(blocks)}. To promote it all the same, say why: "
            f'thousand releases promote {record.name} --override "WHY"'
        )
    record.guard.override = Override(why=why.strip(), when=now(), by=by)
    write(place, record)


def rollback() -> str:
    """Go back to the release that was current before; returns its name. Raises ThousandError when there is none."""
    with _locked_history() as promoted:
        if len(promoted) < 2:
            raise ThousandError("There is no earlier release to go back to; see: thousand releases list")
        if not (folder() / promoted[-2] / RECORD).exists():
            raise ThousandError(
                f"The release {promoted[-2]} is gone; choose another with: thousand releases promote NAME"
            )
        promoted.pop()
        return promoted[-1]


def weights_file(method: Literal["lora", "full"]) -> str:
    """The name of the file in a release's folder that holds what was learnt."""
    return ADAPTER if method == "lora" else WHOLE_MODEL
