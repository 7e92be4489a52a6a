"""The chat page: what its parts do. Conversations are the browser's; each comes along with what is done to it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import gradio
from pydantic import ValidationError

from assistant.dialogue import Message
from assistant.errors import ThousandError
from serve.errors import ApiError
from serve.served import CURRENT
from serve.ui import bringing, giving, tree, view
from serve.ui.asking import Answer, Asker, House, NoAnswer, answers
from serve.ui.chat_parts import NAMES, Parts, about, build_parts, releases, sliders
from serve.ui.tree import Conversation, Node

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
"""How the page asks for what is done at once. (What is not queued could tell of no problem.)"""


def _tell(problem: str, title: str = "No answer") -> None:
    """Show a problem beside the conversation. (Raising gradio.Error would leave parts of the page waiting for ever.)"""
    gradio.Warning(problem, duration=15, title=title)


def _read(given: object) -> Conversation:
    """The conversation of the browser; a broken one is left as it is there, and a new one begins."""
    try:
        return tree.read(given)
    except (ValueError, ValidationError):
        _tell("This conversation cannot be read any more; a new one begins. It stays in the browser.", "Not opened")
        return tree.new()


def _with(conversation: Conversation, answer: Answer, identifier: str) -> Conversation:
    """The conversation with an answer, or as it is while that says nothing."""
    if not answer.text.strip():
        return conversation
    node: Node = {
        "id": identifier,
        "parent": conversation["leaf"],
        "role": "assistant",
        "content": answer.text,
        "release": answer.release,
        "sampling": answer.sampling,
        "tokens": answer.tokens,
        "seconds": answer.seconds,
        "finish": answer.finish or "stopped",  # what stands there when somebody stops it now
    }
    return tree.add(conversation, node)


def _ended(answer: Answer) -> None:
    """Say what is to be known of how an answer ended."""
    if answer.problem is not None:
        _tell(f"The engine failed in the middle of the answer: {answer.problem} Try again.", "The answer broke off")
    elif answer.finish == "length":
        gradio.Info("The answer reached the longest length allowed; raise it under Settings.")
    elif not answer.text.strip():
        _tell("The assistant had nothing to say. Ask in another way, or try again.", "An empty answer")


def _asked(conversation: Conversation, done: dict[str, Any], text: str, system: str) -> Conversation:
    """The conversation up to what is to be answered now. Raises NoAnswer when there is nothing."""
    if "text" in done:
        return tree.ask(conversation, done["text"], system, instead_of=done["message"])
    if "message" in done:
        return tree.again(conversation, done["message"])
    if not text.strip():
        raise NoAnswer("Type a message first.")
    return tree.ask(conversation, text, system)


def build_chat(house: House) -> None:
    """The page, in the Blocks it is called in. Each question goes to the release that is current then, unless another is chosen."""
    parts = build_parts(house.served.current)
    _add_answering(house, parts)
    _add_changing(parts)
    _add_giving(house, parts)
    _add_shelf(parts)
    _add_loading(house, parts)
    _add_api(house, parts)


def _add_answering(house: House, parts: Parts) -> None:
    under_way: dict[str | None, asyncio.Event] = {}  # by Gradio's session, which a tab has of its own

    async def answer(
        held: object, text: str, release: str, event: gradio.EventData, request: gradio.Request, *values: Any
    ) -> AsyncGenerator[list[Any], None]:
        """Asks what is in the box, an edited question, or an earlier one again; the conversation as it grows."""
        settings = dict(zip(NAMES, values, strict=True))
        system = settings.pop("system") or ""
        before = _read(held)
        done = event._data if isinstance(event._data, dict) else {}
        from_box = "message" not in done
        idle = [gradio.skip(), view.talk(before), "", gradio.skip(), _button(True), _button(False)]
        try:
            asked = _asked(before, done, text, system)
            stop = under_way[request.session_hash] = asyncio.Event()
            turns = answers(house, Asker.of(request), release, tree.prompt(asked), settings, stop)
            yield [
                gradio.skip(),
                view.talk(asked, waiting=True),
                view.answering("", 0, 0),
                gradio.skip(),
                _button(False),
                _button(True),
            ]
            identifier, first = tree.new_id(), True
            async with aclosing(turns):
                async for now in turns:
                    box = "" if first and from_box else gradio.skip()
                    first = False
                    shown = view.answering(now.text, now.tokens, now.seconds)
                    yield [_with(asked, now, identifier), gradio.skip(), shown, box, gradio.skip(), gradio.skip()]
        except (NoAnswer, ValidationError) as error:
            _tell(str(error))
            yield idle
            return
        finally:
            under_way.pop(request.session_hash, None)
        whole = _with(asked, now, identifier)
        _ended(now)
        yield [whole, view.talk(whole), "", gradio.skip(), _button(True), _button(False)]

    outputs = [parts.held, parts.log, parts.live, parts.box, parts.send, parts.stop]
    answering = gradio.on(
        [parts.box.submit, parts.send.click, parts.log.retry, parts.log.edit],
        answer,
        [parts.held, parts.box, parts.release, *parts.settings],
        outputs,
        concurrency_limit=None,
        show_progress="hidden",
        api_visibility="private",
    )

    def stop_it(request: gradio.Request) -> None:
        if (stop := under_way.get(request.session_hash)) is not None:
            stop.set()

    parts.stop.click(stop_it, None, None, **QUIET)
    answering.failure(None, None, outputs[1:], js="() => thousand.failed()", **QUIET)


def _button(visible: bool) -> Any:
    return gradio.Button(visible=visible)


def _add_changing(parts: Parts) -> None:
    def switch(held: object, event: gradio.EventData) -> list[Any]:
        conversation = _read(held)
        switched = tree.switch(conversation, event._data["message"], event._data["step"])
        return [switched, view.talk(switched)]

    def undo(held: object) -> list[Any]:
        before = _read(held)
        conversation, text = tree.undo(before)
        return [conversation, view.talk(conversation), text or gradio.skip()]

    parts.log.select(switch, parts.held, [parts.held, parts.log], **QUIET)
    parts.undo.click(undo, parts.held, [parts.held, parts.log, parts.box], **QUIET)


def _add_giving(house: House, parts: Parts) -> None:
    async def say(held: object, said: dict[str, Any], request: gradio.Request) -> list[Any]:
        conversation, asker = _read(held), Asker.of(request)
        try:
            house.access.count_request(asker.key, asker.client)
            conversation = await giving.give(house.store, conversation, said, asker.key)
        except (NoAnswer, ApiError) as error:
            _tell(error.detail if isinstance(error, ApiError) else str(error), "Not stored")
            return [gradio.skip(), gradio.skip()]
        gradio.Info("Thank you. It waits for a review." if said.get("consent") else "Thank you.", duration=4)
        return [conversation, view.talk(conversation)]

    async def of_answer(held: object, event: gradio.EventData, request: gradio.Request) -> list[Any]:
        return await say(held, event._data, request)

    async def keep(held: object, agreed: bool, request: gradio.Request) -> list[Any]:
        leaf = _read(held)["leaf"]
        if leaf is None or not agreed:
            _tell(
                "Say something first." if leaf is None else "Tick the box first: kept is only what you agree to.",
                "Not kept",
            )
            return [gradio.skip(), gradio.skip()]
        return await say(held, {"message": leaf, "keep": True, "consent": True}, request)

    async def take_back(event: gradio.EventData, request: gradio.Request) -> None:
        try:
            gradio.Info(await giving.take_back(house.store, event._data["id"], request.username))
        except NoAnswer as error:
            _tell(str(error), "Not deleted on the server")

    parts.shelf.clear(take_back, None, None, **QUIET)
    outputs = [parts.held, parts.log]
    parts.log.like(of_answer, parts.held, outputs, **QUIET)
    parts.keep.click(keep, [parts.held, parts.agreed], outputs, **QUIET)


def _add_shelf(parts: Parts) -> None:
    def open_one(event: gradio.EventData) -> list[Any]:
        conversation = _read(event._data or None)
        system = next((node["content"] for node in tree.branch(conversation) if node["role"] == "system"), "")
        return [conversation, view.talk(conversation), "", system]

    def bring(event: gradio.EventData) -> list[Conversation] | None:
        try:
            return bringing.read(event._data["name"], event._data["text"])
        except ThousandError as error:
            _tell(str(error), "Nothing imported")
            return None

    parts.held.change(None, parts.held, None, js="(held) => thousand.save(held)", **QUIET)
    parts.shelf.select(open_one, None, [parts.held, parts.log, parts.live, parts.system], **QUIET)
    parts.shelf.upload(bring, None, parts.brought, **QUIET).success(
        None, parts.brought, None, js="(many) => thousand.bring(many)", **QUIET
    )


def _add_loading(house: House, parts: Parts) -> None:
    first = house.served.current
    as_built = first.sampling, first.engine.context  # not the chat itself, which a swap is to free
    del first

    def at_load(held: object) -> list[Any]:
        """Sliders that stand right are left alone: somebody may be moving one already."""
        chat = house.served.current
        same = (chat.sampling, chat.engine.context) == as_built
        conversation = _read(held)
        system = next((node["content"] for node in tree.branch(conversation) if node["role"] == "system"), "")
        return [
            conversation,
            view.talk(conversation),
            about(chat),
            gradio.Dropdown(choices=releases(house.served)),
            system,
            *([gradio.skip()] * len(parts.sliders) if same else sliders(chat)),
        ]

    gradio.context.Context.root_block.load(
        at_load,
        parts.held,
        [parts.held, parts.log, parts.about, parts.release, parts.system, *parts.sliders],
        js="() => [thousand.opened()]",
        **QUIET,
    )


def _add_api(house: House, parts: Parts) -> None:
    """`/chat` for gradio_client, which keeps a conversation of its own."""
    history, said, asked = gradio.State([]), gradio.Textbox(visible=False), gradio.Button(visible=False)

    async def chat(
        message: str,
        history: list[Message],
        request: gradio.Request,
        system: str | None = "",
        temperature: float = 0,
        top_p: float = 0,
        repetition_penalty: float = 0,
        max_tokens: float = 0,
        seed: str | None = "",
    ) -> AsyncGenerator[list[Any], None]:
        settings = {
            "temperature": temperature,
            "top_p": top_p,
            "repetition_penalty": repetition_penalty,
            "max_tokens": max_tokens,
            "seed": seed,
        }
        try:
            turns = [*(history or []), Message(role="user", content=message)]
            first = [Message(role="system", content=system)] if system and system.strip() else []
            async with aclosing(answers(house, Asker.of(request), CURRENT, [*first, *turns], settings)) as told:
                async for now in told:
                    yield [now.text, gradio.skip()]
        except (NoAnswer, ValidationError) as error:
            _tell(str(error))
            yield ["", gradio.skip()]
            return
        _ended(now)
        if now.text.strip():
            yield [now.text, [*turns, Message(role="assistant", content=now.text)]]

    asked.click(chat, [parts.box, history, *parts.settings], [said, history], api_name="chat", concurrency_limit=None)
