"""From a release's name to a chat, and from a chat to a listening server."""

import errno
import ipaddress
import shutil
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

from assistant import base_model, opening, release
from assistant.base_model import Base, Say
from assistant.errors import ThousandError
from assistant.gguf_merge import Progress
from assistant.release import Release
from assistant.sampling import Sampling
from assistant.settings import settings
from assistant.template import Template
from serve.access import Access
from serve.chat import MOST_TURNS, Chat
from serve.engines.base import Engine
from serve.engines.remote import Remote
from serve.follow import follow, open_current
from serve.keys import Keys
from serve.served import Served

EngineName = Literal["auto", "llama.cpp", "transformers"]
RemoteName = Literal["tgi", "openai"]
Background = Callable[[], Coroutine[Any, Any, None]]
"""What runs beside a server for as long as it does."""


def _has_gpu() -> bool:
    """Whether PyTorch can use a GPU; it is only loaded to find out where there may be one."""
    if shutil.which("nvidia-smi") is None:
        return False
    import torch

    return torch.cuda.is_available()


def start_engine(
    kind: EngineName,
    base: Base,
    place: Path | None,
    record: Release | None,
    template: Template,
    context: int,
    say: Say,
    progress: Progress,
) -> Engine:
    """The engine for a release, or for the plain base model with no release.

    `auto` is llama.cpp where the base has a GGUF file and there is no GPU, else transformers.
    """
    if kind == "auto":
        kind = "llama.cpp" if base.gguf is not None and not _has_gpu() else "transformers"
    if kind == "llama.cpp":
        from serve.engines.llama_cpp import LlamaCpp, merged_gguf

        return LlamaCpp(merged_gguf(base, place, record, template, say, progress), context=context)
    from serve.engines.pytorch import PyTorch

    return PyTorch(base, place, record, template, context=context, say=say)


def connect(kind: RemoteName, remote: Remote, template: Template, context: int) -> Engine:
    """The engine for a release that runs on a server. Raises ThousandError when the server does not have it."""
    if kind == "tgi":
        from serve.engines.tgi import Tgi

        return Tgi(remote, template, context=context)
    from serve.engines.openai_completions import OpenAICompletions

    return OpenAICompletions(remote, template, context=context)


def _remote(engine: EngineName | RemoteName, url: str | None, model: str | None) -> Remote | None:
    """Where the engine is, None for one of this process. Raises ThousandError when the options do not go together."""
    if engine not in get_args(RemoteName):
        if url is not None or model is not None:
            raise ThousandError(
                "--engine-url and --engine-model are for an engine elsewhere: add --engine tgi or --engine openai."
            )
        return None
    if url is None:
        raise ThousandError(
            f"--engine {engine} needs --engine-url, where that server is; docs/deploying.md says how to start one."
        )
    return Remote(url, model, settings().engine_key)


def open_chat(
    name: str | None,
    *,
    engine: EngineName | RemoteName,
    context: int,
    say: Say,
    progress: Progress = lambda done, total: None,
    url: str | None = None,
    model: str | None = None,
    most_turns: int = MOST_TURNS,
) -> Chat:
    """A chat with a release (the current one by default). Raises ThousandError when it cannot be had.

    `url` and `model` say where a remote engine is and what it calls the release.
    """
    remote = _remote(engine, url, model)
    chosen = release.current(say) if name is None else name
    place = release.path(chosen, say)
    record = release.read(place)
    if remote is not None:
        template = opening.open_template(place, record)
        connected = connect(cast("RemoteName", engine), remote, template, context)
        return Chat(connected, template, name=chosen, sampling=record.sampling, record=record, most_turns=most_turns)
    return open_placed(
        place, engine=cast("EngineName", engine), context=context, say=say, progress=progress, most_turns=most_turns
    )


def open_placed(
    place: Path,
    *,
    engine: EngineName,
    context: int,
    say: Say,
    progress: Progress = lambda done, total: None,
    most_turns: int = MOST_TURNS,
) -> Chat:
    """A chat with the release in a folder, which may stand outside the registry. Raises ThousandError when it cannot be had."""
    record = release.read(place)
    base, template = opening.open_parts(place, record, say)
    started = start_engine(engine, base, place, record, template, context, say, progress)
    return Chat(started, template, name=record.name, sampling=record.sampling, record=record, most_turns=most_turns)


def open_base_chat(spec: str, *, engine: EngineName, context: int, say: Say) -> Chat:
    """A chat with a plain base model in our template: what training begins from. Raises ThousandError when it cannot be had."""
    base = base_model.resolve(spec, say)
    template = Template.load(base.folder)
    started = start_engine(engine, base, None, None, template, context, say, lambda done, total: None)
    return Chat(started, template, name=base.name, sampling=Sampling())


def _only_this_machine(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def listen(host: str, port: int, keys: Keys) -> socket.socket:
    """A listening socket, taken before anything is loaded.

    Raises ThousandError when the port is in use, the address is not this machine's, or it is open to others without a key.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        if not keys.asked and not _only_this_machine(
            listener
        ):  # looked at here, since a name may stand for any address
            raise ThousandError(
                f"Listening on {host} lets others in, so it needs a key: set THOUSAND_API_KEY to a long secret, or use --host 127.0.0.1"
            )
        listener.listen(128)
    except ThousandError:
        listener.close()
        raise
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ThousandError(
                f"Port {port} on {host} is in use; stop what uses it, or choose another: thousand serve --port {port + 1}"
            ) from None
        raise ThousandError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another --host or --port."
        ) from None
    except OverflowError:
        listener.close()
        raise ThousandError(f"{port} is no port; use one from 1 to 65535.") from None
    return listener


def open_served(
    name: str | None,
    *,
    engine: EngineName | RemoteName,
    context: int,
    say: Say,
    warn: Say,
    progress: Progress = lambda done, total: None,
    url: str | None = None,
    model: str | None = None,
    most_turns: int = MOST_TURNS,
) -> tuple[Served, Background | None]:
    """What a server answers with, and what is to run beside it: with no name, it is on the release that is current, also when
    that changes. Raises ThousandError when no release can be had.
    """
    opener = partial(
        open_chat,
        engine=engine,
        context=context,
        say=say,
        progress=progress,
        url=url,
        model=model,
        most_turns=most_turns,
    )
    remote = engine in get_args(RemoteName)
    seen = release.registry_stamp()  # before the registry is read, so that no change is missed
    if name is None and not remote:
        chat, failed = open_current(opener, say, warn)
    else:
        chat, failed = opener(name), None
    served = Served(chat, None if remote else opener, failed=failed)
    return served, None if name else partial(follow, served, seen)


def access_to(
    listener: socket.socket, keys: Keys, *, origins: Sequence[str] = (), requests_per_minute: int | None = None
) -> Access:
    """Who is let in at a socket: without a key, only who names this machine. Raises ThousandError for what is no origin."""
    hosts = ["127.0.0.1", "localhost", "::1", listener.getsockname()[0]]
    return Access(hosts=hosts, keys=keys, origins=origins, requests_per_minute=requests_per_minute)


def serve(
    served: Served,
    listener: socket.socket,
    access: Access,
    *,
    page: bool,
    drain_seconds: float,
    background: Background | None = None,
) -> None:
    """Answer HTTP until SIGINT or SIGTERM: the endpoint, and the page at `/`; `background` runs meanwhile. Answers under way
    then have `drain_seconds`."""
    from serve.api import build_app
    from serve.life import Life, Server
    from serve.logs import log_printed_tracebacks, log_to
    from serve.metrics import Meter
    from serve.store import Store

    log_to(sys.stderr)
    meter, life, store = Meter(served), Life(), Store()
    app = build_app(served, access=access, store=store, meter=meter, life=life, background=background)
    if page:
        from serve.ui.asking import House
        from serve.ui.pages import mount_pages

        log_printed_tracebacks()
        app = mount_pages(app, House(served, access, meter, life, store))
    Server(app, life, drain_seconds=drain_seconds).run(sockets=[listener])
