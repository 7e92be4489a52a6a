"""Asking a system what stands in a set of prompts. Every answer is kept as it comes, and never asked for again.

A kept answer is found by the content of what it answers: the whole conversation up to there, the settings, and the system's
identity. So a run that was stopped goes on where it was, two commands that ask the same share the answers, and a prompt
that was changed is asked anew.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from assistant.dialogue import Message
from assistant.errors import ThousandError
from assistant.files import append_line
from assistant.held_out import ScriptedConversation, ScriptedTurn
from assistant.settings import settings
from evaluation.sets import PromptSet, Reply, SetName, name_of
from evaluation.systems import System
from serve.chat import Refused
from serve.engines.base import EngineError

CONCURRENT = 8
"""Conversations at a time, as many as llama.cpp's engine answers at once."""
ATTEMPTS = 2
"""An engine that died is started again for the second one."""
GIVE_UP = 5
"""Prompts in a row for which the engine failed, after which it is not asked further."""

Done = Callable[[int], None]
"""Told how many more turns are done."""


class KeptAnswer(BaseModel):
    """One line of a system's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    place: str
    """Set, prompt, number of the turn, and settings: where this answer belonged when it was given."""
    text: str
    tokens: int
    stopped: bool


def _folder() -> Path:
    return settings().home / "evaluations"


def asked_remark(name: SetName) -> list[str]:
    """How many systems have answered a prompt of a test set here, whatever the settings and its version: who chooses by it has no test
    left. Nothing of dev, which is there to choose by."""
    if name == "dev":
        return []
    place = f'"place":"{name}/'.encode()  # no answer can hold this: the quotes in it are escaped
    systems = sum(place in file.read_bytes() for file in _folder().glob("*.jsonl"))
    if not systems:
        return []
    has = "system has" if systems == 1 else "systems have"
    return [
        f"{name}: {systems} {has} answered this test set here. Choose by the dev prompts: what is chosen by a test is no test of it."
    ]


class Kept:
    """The answers that a system has given; those of a line that a crash cut are asked for again."""

    def __init__(self, identity: str) -> None:
        self.file = _folder() / f"{identity}.jsonl"
        self._by_key: dict[str, KeptAnswer] = {}
        self._places: set[str] = set()
        self.changed: list[str] = []
        """Names of prompts that were asked before with other words."""
        for line in self.file.read_bytes().splitlines() if self.file.exists() else []:
            try:
                self._remember(KeptAnswer.model_validate_json(line))
            except ValidationError:
                continue

    def _remember(self, answer: KeptAnswer) -> None:
        self._by_key[answer.key] = answer
        self._places.add(answer.place)

    def find(self, key: str, place: str, name: str) -> KeptAnswer | None:
        """The answer to this content; `name` is put among the changed ones if its place had other content before."""
        found = self._by_key.get(key)
        if found is None and place in self._places and name not in self.changed:
            self.changed.append(name)
        return found

    def add(self, answer: KeptAnswer) -> None:
        """Put an answer on the disk."""
        append_line(self.file, answer.model_dump_json())
        self._remember(answer)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _checked(turn: ScriptedTurn, text: str, tokens: int, stopped: bool) -> Reply:
    if not text.strip():
        return Reply(outcome="empty", tokens=tokens, stopped=stopped, failed_checks=("empty",))
    failed = tuple(turn.checks.failed(text)) if turn.checks else ()
    return Reply(outcome="answered", text=text, tokens=tokens, stopped=stopped, failed_checks=failed)


class _Asking:
    """One round of asking one system."""

    def __init__(self, system: System, done: Done) -> None:
        self._chat, self._sampling, self._done = system.chat, system.sampling, done
        self.kept = Kept(system.identity)
        self._places = asyncio.Semaphore(CONCURRENT)
        self._failures = 0
        self.down: str | None = None

    async def conversation(self, of: str, script: ScriptedConversation) -> list[Reply]:
        async with self._places:
            messages = [Message(role="system", content=script.system)] if script.system else []
            replies: list[Reply] = []
            for number, turn in enumerate(script.turns, start=1):
                messages.append(Message(role="user", content=turn.user))
                replies.append(await self._turn(f"{of}/{name_of(script)}", number, messages, turn))
                self._done(1)
                if replies[-1].outcome != "answered":
                    break
                messages.append(Message(role="assistant", content=replies[-1].text))
            left = len(script.turns) - len(replies)
            if left:
                self._done(left)
            return replies + [_after(replies[-1])] * left

    async def _turn(self, name: str, number: int, messages: list[Message], turn: ScriptedTurn) -> Reply:
        drawn = self._sampling.model_dump_json()
        key = _digest([(message.role, message.content) for message in messages], drawn)
        place = f"{name}/{number}/{_digest(drawn)[:8]}"
        known = self.kept.find(key, place, name)
        if known is None:
            if self.down:
                return Reply(outcome="unanswered", problem=self.down)
            try:
                text, tokens, stopped = await self._ask(messages)
            except Refused as error:
                return Reply(outcome="unanswered", problem=str(error))
            except EngineError as error:
                self._failures += 1
                if self._failures >= GIVE_UP:
                    self.down = str(error)
                return Reply(outcome="unanswered", problem=str(error))
            self._failures = 0
            known = KeptAnswer(key=key, place=place, text=text, tokens=tokens, stopped=stopped)
            self.kept.add(known)
        return _checked(turn, known.text, known.tokens, known.stopped)

    async def _ask(self, messages: Sequence[Message], attempt: int = 1) -> tuple[str, int, bool]:
        try:
            turn = self._chat.turn(messages, self._sampling)
            text = "".join([piece async for piece in turn.text])
        except EngineError:
            if attempt == ATTEMPTS:
                raise
            return await self._ask(messages, attempt + 1)
        return text, turn.usage.completion_tokens, turn.finish_reason == "stop"


def _after(last: Reply) -> Reply:
    if last.outcome == "unanswered":
        return last
    return Reply(outcome="not reached", failed_checks=("not reached",))


@dataclass(frozen=True)
class Answered:
    """What a system said to several sets."""

    replies: list[list[list[Reply]]]
    """For each set, each of its prompts, and each turn."""
    changed: list[str]
    """Prompts that this system was asked before in other words, `set/prompt`."""


def ask(system: System, sets: Sequence[PromptSet], done: Done = lambda count: None) -> Answered:
    """What the system says to every prompt of every set; its engine is closed afterwards.

    Raises ThousandError when the engine failed several times in a row; what was answered until then is kept.
    """

    async def all_of_them() -> Answered:
        asking = _Asking(system, done)
        try:
            said = await asyncio.gather(
                *[asking.conversation(asked.name, script) for asked in sets for script in asked.scripts]
            )
        finally:
            await system.chat.close()
        if asking.down:
            raise ThousandError(
                f"{system.name} failed {GIVE_UP} times in a row: {asking.down.rstrip('.')}. "
                "What it answered is kept: the same command goes on from there."
            )
        replies = iter(said)
        return Answered([[next(replies) for _ in asked.scripts] for asked in sets], asking.kept.changed)

    return asyncio.run(all_of_them())
