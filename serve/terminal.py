"""Chatting in the terminal: streaming, history, Ctrl-C stops an answer."""

import asyncio
import readline
import signal
from contextlib import aclosing

from pydantic import ValidationError
from rich.console import Console

from assistant.dialogue import Message
from assistant.errors import ThousandError, validation_sentence
from assistant.sampling import Sampling
from assistant.settings import settings
from serve.chat import Chat

HELP = (
    "/new begins a new conversation, /undo takes back the last turn, /system TEXT sets the system prompt, "
    "/quit leaves; Ctrl-C stops an answer."
)


class Conversation:
    """The messages so far, and what the slash commands do with them."""

    def __init__(self, system: str | None) -> None:
        self.system = system if system and system.strip() else None
        self.turns: list[Message] = []

    def messages(self) -> list[Message]:
        """The conversation with its system prompt."""
        return ([Message(role="system", content=self.system)] if self.system else []) + self.turns

    def command(self, line: str) -> str:
        """Do a slash command; returns what to say about it."""
        name, _, rest = line.partition(" ")
        if name == "/new":
            self.turns.clear()
            return "A new conversation."
        if name == "/undo":
            del self.turns[-2:]
            return f"Taken back; {len(self.turns) // 2} turns are left."
        if name == "/system":
            self.system = rest.strip() or None
            return "The system prompt is set." if self.system else "No system prompt."
        return HELP


async def _answer(chat: Chat, conversation: Conversation, sampling: Sampling, console: Console) -> None:
    """Stream one answer; Ctrl-C stops it at any time and keeps what has come so far."""
    turn = chat.turn(conversation.messages(), sampling)
    pieces: list[str] = []

    async def stream() -> None:
        async with aclosing(turn.text) as text:
            async for piece in text:
                pieces.append(piece)
                console.print(piece, end="", markup=False, highlight=False, emoji=False, soft_wrap=True)

    task = asyncio.create_task(stream())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        console.print(" (stopped)", style="dim", end="")
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    console.print()
    if turn.finish_reason == "length":
        console.print("(cut at the longest length allowed)", style="dim")
    answer = "".join(pieces)
    if answer.strip():
        conversation.turns.append(Message(role="assistant", content=answer))
    else:
        conversation.turns.pop()
        console.print("(no answer; the question is taken back)", style="dim")


def _read_history() -> None:
    file = settings().home / "chat-history"
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        readline.read_history_file(file)
    readline.set_history_length(500)


def _ask(
    runner: asyncio.Runner, chat: Chat, conversation: Conversation, line: str, sampling: Sampling, console: Console
) -> None:
    """One question and its answer; what is refused is said, and the conversation stays as it was."""
    before = len(conversation.turns)
    try:
        conversation.turns.append(Message(role="user", content=line))
        runner.run(_answer(chat, conversation, sampling, console))
    except ValidationError as error:
        console.print(validation_sentence(error), style="red", markup=False)
    except ThousandError as error:
        del conversation.turns[before:]
        console.print(str(error), style="red", markup=False)


def chat_in_terminal(chat: Chat, sampling: Sampling, system: str | None, console: Console) -> None:
    """Chat until /quit, end of input, or Ctrl-C at the prompt."""
    conversation = Conversation(system)
    _read_history()
    console.print(f"[bold]{chat.name}[/bold] [dim]{HELP}[/dim]")
    with asyncio.Runner() as runner:
        try:
            while True:
                try:
                    line = input("> ").strip()
                except (EOFError, KeyboardInterrupt):
                    console.print()
                    break
                except UnicodeDecodeError:
                    console.print("That line is not UTF-8 text.", style="red")
                    continue
                if line == "/quit":
                    break
                if line.startswith("/"):
                    console.print(conversation.command(line), style="dim")
                elif line:
                    _ask(runner, chat, conversation, line, sampling, console)
        finally:
            readline.write_history_file(settings().home / "chat-history")
            runner.run(chat.close())
