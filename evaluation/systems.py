"""What can be asked: a release, the base model without training, the base with examples in its context, or a model at an endpoint."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from assistant import release
from assistant.base_model import Say
from assistant.dialogue import Message
from assistant.errors import ThousandError
from assistant.gguf_merge import Progress
from assistant.release import Release
from assistant.sampling import Sampling
from evaluation.endpoint import Endpoint, is_endpoint
from serve.chat import Chat, Turn
from serve.start import EngineName, open_base_chat, open_chat, open_placed

CONTEXT = 4096
BASE, URIAL = "base", "urial"
"""What the base model, plain or with examples in its context, is called on the command line."""
_PACKAGES = {"llama.cpp": "xllamacpp", "transformers": "transformers"}


class Answerer(Protocol):
    """What takes a conversation and answers its last turn, as `serve.chat.Chat` does."""

    def turn(self, messages: Sequence[Message], sampling: Sampling) -> Turn: ...

    async def close(self) -> None: ...


class Asked(BaseModel):
    """A system that was asked, as records name it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    identity: str
    """A hash of all that decides its answers beside the prompts and the settings."""
    adapter_sha256: str | None = None
    """None for what is no release."""
    sampling: Sampling


@dataclass(frozen=True)
class System:
    """Something that answers."""

    name: str
    chat: Answerer
    sampling: Sampling
    identity: str
    """A hash of all that decides its answers, beside what it is asked and the settings."""
    adapter_sha256: str | None = None
    """Of a release."""

    @property
    def asked(self) -> Asked:
        """What records say of it."""
        return Asked(name=self.name, identity=self.identity, adapter_sha256=self.adapter_sha256, sampling=self.sampling)


def check_names(systems: Iterable[System]) -> None:
    """Raises ThousandError for systems that a table would call the same."""
    names = Counter(system.name for system in systems)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ThousandError(
            f"Two of the systems would both be called {' and '.join(twice)}; ask them one after the other."
        )


def need_not_be_here(name: str) -> bool:
    """Whether a system's name is that of no release."""
    return name in (BASE, URIAL) or is_endpoint(name)


def _identity(chat: Chat, kind: str, known: Release) -> str:
    adapter = known.adapter_sha256 if kind == "release" else None
    vocabulary = known.vocabulary if kind == "release" else "full"
    package = _PACKAGES.get(chat.engine.name)
    engine = [chat.engine.name, version(package) if package else None]
    made_of: list[Any] = [kind, adapter, known.base_checksum, vocabulary, chat.template.record(), engine, CONTEXT]
    if kind == URIAL:
        from evaluation.urial import in_context

        made_of.append([message.model_dump() for message in in_context()])
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


def open_system(
    name: str,
    of: Release,
    *,
    engine: EngineName,
    say: Say,
    settings: Mapping[str, Any],
    progress: Progress = lambda done, total: None,
) -> System:
    """A release by its name, drawn from as it is served but for `settings` (fields of Sampling); `base` and `urial` are the base
    model of the release `of`, drawn from as that is; an address such as `http://127.0.0.1:8000/v1#MODEL` is a chat model there.

    Raises ThousandError when it cannot be had.
    """
    if is_endpoint(name):
        endpoint = Endpoint.find(name)
        return System(endpoint.name, endpoint, endpoint.sampling(settings), endpoint.identity)
    known = of if name in (BASE, URIAL) else release.read(release.path(name, say))
    sampling = Sampling.model_validate({**known.sampling.model_dump(), **settings})
    if name == BASE:
        chat = open_base_chat(of.base, engine=engine, context=CONTEXT, say=say)
        shown = f"base model {of.base_name}"
    elif name == URIAL:
        from evaluation.urial import open_in_context_chat

        chat = open_in_context_chat(of.base, engine=engine, context=CONTEXT, say=say)
        shown = f"{of.base_name}, 3 examples in context"
    else:
        chat = open_chat(name, engine=engine, context=CONTEXT, say=say, progress=progress)
        shown = name
    kind = name if name in (BASE, URIAL) else "release"
    adapter = known.adapter_sha256 if kind == "release" else None
    return System(shown, chat, sampling, _identity(chat, kind, known), adapter)


def open_placed_system(place: Path, *, engine: EngineName, say: Say, settings: Mapping[str, Any]) -> System:
    """The release in a folder that may stand outside the registry, drawn from as it is served but for `settings`.

    Raises ThousandError when it cannot be had.
    """
    known = release.read(place)
    sampling = Sampling.model_validate({**known.sampling.model_dump(), **settings})
    chat = open_placed(place, engine=engine, context=CONTEXT, say=say)
    return System(known.name, chat, sampling, _identity(chat, "release", known), known.adapter_sha256)


def record(system: System, name: str, scores: dict[str, Any]) -> None:
    """Write what a release scored on a set into its record."""
    place = release.path(system.name)
    known = release.read(place)
    kept = {**scores, "sampling": system.sampling.model_dump(mode="json")}
    release.write(place, known.model_copy(update={"scores": {**known.scores, name: kept}}))
