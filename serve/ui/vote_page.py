"""A page of this machine's own on which one person votes, for as long as the command runs."""

from typing import Any

import gradio
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from assistant.base_model import Say
from evaluation.voting.ballot import Ballot
from serve.access import Access
from serve.gate import Gate
from serve.keys import Keys
from serve.life import Life, Server
from serve.start import access_to, listen
from serve.ui.pages import mount_blocks
from serve.ui.vote import BACK, CSS, build_vote

OVER = '<div class="vote"><p>That was all, thank you. You may close this page; Ctrl-C in the terminal shows what the votes say.</p></div>'

HEAD = "h1 { font-size: 1.4rem !important; margin: 0 !important; }"


def vote_app(ballot: Ballot, access: Access, life: Life) -> FastAPI:
    """The page as an application; `access` says who is answered."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Gate, access=access, life=life)
    # Always there: Gradio, finding none, would let in pages from everywhere.
    app.add_middleware(CORSMiddleware, allow_origins=())
    return mount_blocks(app, _blocks(ballot), access)


def _blocks(ballot: Ballot) -> gradio.Blocks:
    about = (
        f"# {ballot.scale.question}\n\nYou vote as **{ballot.voter}**. Read all of it, then click, or press the number; {BACK} takes the "
        "last vote back. Each vote is kept at once: leave when you like, and the same command goes on from there."
    )
    with gradio.Blocks(title="Vote", analytics_enabled=False) as blocks:
        gradio.HTML(f"<style>{CSS}{HEAD}</style>", padding=False)
        part = build_vote(ballot.scale, lambda: ballot, lambda _: True, about=about, over=lambda _: OVER, refused="")
        quietly: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        gradio.on(None, part.look_closely, outputs=part.outputs, **quietly)
    return blocks


def vote_in_browser(ballot: Ballot, say: Say) -> None:
    """Serve the page until Ctrl-C."""
    listener, life = listen("127.0.0.1", 0, Keys()), Life()
    app = vote_app(ballot, access_to(listener, Keys()), life)
    say(f"Vote at http://127.0.0.1:{listener.getsockname()[1]} and end with Ctrl-C.")
    Server(app, life, drain_seconds=0).run(sockets=[listener])
