"""What a release is served with: its adapter, base model and template, each the one that it was trained with."""

from pathlib import Path
from typing import Any

from assistant import base_model
from assistant.base_model import Base, Say
from assistant.errors import ThousandError
from assistant.files import sha256
from assistant.release import Release, weights_file
from assistant.template import Template
from assistant.vocabulary import with_vocabulary


def adapter_of(place: Path, release: Release) -> Path | None:
    """The folder of a release's adapter, None for a release that is a whole model.

    Raises ThousandError when its weights are not those that its record names.
    """
    file = place / weights_file(release.method)
    if not file.exists() or sha256(file) != release.adapter_sha256:
        raise ThousandError(
            f"The weights of release {release.name} are missing or damaged (checksum); install it again, or: thousand releases rollback"
        )
    return place if release.method == "lora" else None


def open_parts(place: Path, release: Release, say: Say = base_model.quiet) -> tuple[Base, Template]:
    """The base model and the template that a release is served with: with its compact vocabulary, if it has one.

    A release that is a whole model is its own base. Raises ThousandError when either is not what it was trained with.
    """
    stop = release.template["stop_rule"]
    if release.method == "full":
        base, template = Base(release.name, release.adapter_sha256, None, place), Template.load(place, stop)
        trained = release.template
    else:
        base = with_vocabulary(_resolved(release, say), release.vocabulary, say)
        compact = release.vocabulary == "compact"
        template = Template.load(base.folder if compact else place, stop)
        # The record has the stop token's id in the whole vocabulary; which token it is follows from the rule.
        trained = {**release.template, "stop_id": template.stop_id} if compact else release.template
    _check_template(template.record(), release, trained)
    return base, template


def open_template(place: Path, release: Release) -> Template:
    """The template on the whole vocabulary, which servers of others have; no base model is needed for it.

    Raises ThousandError when it is not what the release was trained with.
    """
    template = Template.load(place, release.template["stop_rule"])
    _check_template(template.record(), release, release.template)
    return template


def _check_template(found: dict[str, Any], release: Release, trained: dict[str, Any]) -> None:
    if found != trained:
        raise ThousandError(f"The template of release {release.name} is not the one it was trained with; train again.")


def _resolved(release: Release, say: Say) -> Base:
    base = base_model.resolve(release.base, say)
    if base.checksum != release.base_checksum:
        raise ThousandError(
            f"The release {release.name} was trained on another {release.base} than the one here (checksum); "
            "give the one it was trained on, or train again."
        )
    return base
