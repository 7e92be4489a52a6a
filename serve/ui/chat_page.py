"""The chat page: Gradio's chat interface over `serve.chat`.

Conversations are kept in the browser's local storage only, under a secret that is kept on this machine so that a
restart loses none of them.
"""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import gradio
from filelock import FileLock
from pydantic import ValidationError

from assistant.dialogue import Message
from assistant.errors import validation_sentence
from assistant.files import write_text
from assistant.sampling import Sampling
from assistant.settings import settings
from serve.access import Access
from serve.chat import Busy, Chat, Refused
from serve.engines.base import EngineError
from serve.errors import ApiError
from serve.life import Life
from serve.metrics import Meter
from serve.seen import Seen
from serve.served import Served
from serve.watching import page_turn


def _browser_secret() -> str:
    file = settings().home / "browser-secret"
    settings().home.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            write_text(file, secrets.token_hex(16))
            file.chmod(0o600)
    return file.read_text(encoding="utf-8")


def _text(content: Any) -> str:
    """The text of a message as the chat component keeps it: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(part if isinstance(part, str) else part.get("text", "") for part in parts)


def _messages(history: list[dict[str, Any]], message: str, system: str) -> list[Message]:
    """The conversation as messages; a question that got no answer is left out."""
    turns = [Message(role="system", content=system)] if system.strip() else []
    for asked, given in pairwise(history):
        texts = _text(asked["content"]), _text(given["content"])
        if (asked["role"], given["role"]) == ("user", "assistant") and all(text.strip() for text in texts):
            turns += [Message(role="user", content=texts[0]), Message(role="assistant", content=texts[1])]
    return [*turns, Message(role="user", content=message)]


def _tell(problem: str) -> None:
    """Show a problem beside the conversation. (Raising gradio.Error would leave the message box disabled for good.)"""
    gradio.Warning(problem, duration=15, title="No answer")


def _refuse(seen: Seen, error: ValidationError | Refused | Busy | ApiError) -> None:
    """Say on the page why there is no answer, and note it for the log."""
    if isinstance(error, ValidationError):
        seen.error = "invalid_value"
        _tell(validation_sentence(error))
    elif isinstance(error, ApiError):
        seen.error = error.code
        _tell(error.detail)
    else:
        seen.error = "busy" if isinstance(error, Busy) else error.code
        _tell(str(error))


def _about(chat: Chat) -> str:
    return (
        f"Release **{chat.name}**. It has a good manner and a small memory: check its facts. "
        "Conversations stay in this browser."
    )


def _settings(chat: Chat) -> list[gradio.Slider]:
    """The sliders, at the release's own defaults."""
    fields, defaults, context = Sampling.model_fields, chat.sampling, chat.engine.context
    return [
        gradio.Slider(
            0, 2, defaults.temperature, step=0.05, label="Temperature", info=fields["temperature"].description
        ),
        gradio.Slider(0, 1, defaults.top_p, step=0.01, label="Top p", info=fields["top_p"].description),
        gradio.Slider(
            1,
            2,
            defaults.repetition_penalty,
            step=0.01,
            label="Repetition penalty",
            info=fields["repetition_penalty"].description,
        ),
        gradio.Slider(
            1,
            min(context, 4096),
            min(defaults.max_tokens, context),
            step=1,
            label="Longest answer",
            info=fields["max_tokens"].description,
        ),
    ]


def build_chat(served: Served, access: Access, meter: Meter, life: Life) -> gradio.ChatInterface:
    """The chat page. Each question goes to the release that is current then; which one that is, and the sliders' places, are told
    anew whenever the page is loaded."""
    defaults = served.current.sampling

    async def answer(
        message: str,
        history: list[dict[str, Any]],
        request: gradio.Request,
        system: str | None = "",
        temperature: float = defaults.temperature,
        top_p: float = defaults.top_p,
        repetition_penalty: float = defaults.repetition_penalty,
        max_tokens: float = defaults.max_tokens,
        seed: str | None = "",
    ) -> AsyncGenerator[str, None]:
        """One answer to `message` after `history`; each value is the whole answer so far."""
        client = request.client.host
        with page_turn(meter, life, key=request.username, client=client) as seen:
            try:
                access.count_request(request.username, client)
                sampling = Sampling(
                    temperature=temperature,
                    top_p=top_p,
                    repetition_penalty=repetition_penalty,
                    max_tokens=int(max_tokens),
                    seed=(seed or "").strip() or None,
                )
                with seen.watched():
                    turn = served.current.turn(_messages(history, message, system or ""), sampling)
            except (ValidationError, Refused, Busy, ApiError) as error:
                _refuse(seen, error)
                return
            shown = ""
            try:
                async with aclosing(turn.text) as text:
                    async for piece in text:
                        shown += piece
                        yield shown
            except EngineError as error:
                _tell(f"The engine failed in the middle of the answer: {error}")
        if turn.finish_reason == "length":
            gradio.Info("The answer reached the longest length allowed; raise it under Settings.")

    about = _about(served.current)
    sliders = _settings(served.current)
    page = gradio.ChatInterface(
        answer,
        title="Thousand",
        description=about,
        chatbot=gradio.Chatbot(label="Conversation", height="60vh", buttons=["copy"], placeholder="Ask something."),
        textbox=gradio.Textbox(
            label="Your message",
            placeholder="Type a message; Enter sends, Shift+Enter is a new line",
            autofocus=True,
            submit_btn=True,
            stop_btn=True,
            max_lines=12,
        ),
        additional_inputs=[
            gradio.Textbox(
                value="",
                label="System prompt",
                info="What the assistant should keep to in the whole conversation.",
                lines=2,
            ),
            *sliders,
            gradio.Textbox(value="", label="Seed", info=Sampling.model_fields["seed"].description),
        ],
        additional_inputs_accordion=gradio.Accordion("Settings", open=False),
        editable=True,
        save_history=True,
        concurrency_limit=None,
        api_name="chat",
        analytics_enabled=False,
    )
    page.saved_conversations.secret = _browser_secret()
    (told,) = [block for block in page.blocks.values() if isinstance(block, gradio.Markdown) and block.value == about]
    as_built = defaults, served.current.engine.context  # not the chat itself, which a swap is to free

    def at_load() -> list[Any]:
        """Sliders that stand right are left alone: somebody may be moving one already."""
        chat = served.current
        same = (chat.sampling, chat.engine.context) == as_built
        return [_about(chat), *([gradio.skip()] * len(sliders) if same else _settings(chat))]

    with page:
        page.load(
            at_load,
            outputs=[told, *sliders],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
    return page
