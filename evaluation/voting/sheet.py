"""What is voted on: the prompts of a set and what one system answered, or two."""

import hashlib
import json
import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from assistant.errors import ThousandError
from assistant.held_out import ScriptedConversation
from evaluation.sets import Reply, SetName, name_of
from evaluation.systems import Asked
from evaluation.voting.scale import ScaleName


class Model(BaseModel):
    """What is written down."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def digest(*parts: object) -> str:
    """A hash of what can be written as JSON."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class Item(Model):
    """One prompt and what was answered."""

    prompt: str
    """Its id."""
    system: str | None
    user: str
    answers: tuple[str, ...]
    """One, or of a pair the first and the second system's. An empty one is shown as nothing, and voted on."""
    by_rule: str | None = None
    """What the rule checks say of it, where it has some."""

    @property
    def key(self) -> str:
        """Of what is voted on."""
        return digest(self.system, self.user, self.answers)

    @property
    def place(self) -> str:
        """Sorts prompts as if by lot, but always alike: a part of a set is the same one for every system and voter."""
        return digest(self.system, self.user)


class Sheet(Model):
    """What is voted on."""

    scale: ScaleName
    set: SetName
    file: str
    """Its name."""
    sha256: str
    """Of the file."""
    systems: tuple[Asked, ...]
    items: tuple[Item, ...]
    same: tuple[str, ...] = ()
    """Prompts that both answered in the same words; there is nothing to vote on."""
    unanswered: dict[str, str] = {}
    """Prompts without an answer, as an engine failed, and why."""
    left_out: tuple[str, ...] = ()
    """Prompts that stand twice in the set, each with its place and the place of the first."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(system.name for system in self.systems)

    @property
    def folder(self) -> str:
        """Its name."""
        words = "-".join([self.scale, self.set, *self.names]).lower()
        return f"{re.sub('[^a-z0-9]+', '-', words)[:80].strip('-')}-{digest(words, self.file)[:8]}"

    @property
    def turned(self) -> "Sheet":
        """The same with the systems in the other order."""
        items = tuple(item.model_copy(update={"answers": item.answers[::-1]}) for item in self.items)
        return self.model_copy(update={"systems": self.systems[::-1], "items": items})

    def joined(self, before: "Sheet") -> "Sheet":
        """With what an earlier sheet had of the same set and systems beside it."""
        if (before.sha256, before.systems) != (self.sha256, self.systems):
            return self
        found = {item.prompt: item for item in (*before.items, *self.items)}
        items = tuple(sorted(found.values(), key=lambda item: item.place))
        same = tuple(dict.fromkeys(before.same + self.same))
        missing = {**before.unanswered, **self.unanswered}
        unanswered = {prompt: why for prompt, why in missing.items() if prompt not in (*found, *same)}
        return self.model_copy(update={"items": items, "same": same, "unanswered": unanswered})


def sheet_of(
    scale: ScaleName,
    of: SetName,
    file: str,
    sha256: str,
    left_out: Sequence[str],
    scripts: Sequence[ScriptedConversation],
    answered: Sequence[tuple[Asked, Sequence[Sequence[Reply]]]],
) -> Sheet:
    """A sheet of what one system said to single prompts, or two. Raises ThousandError when there is nothing to vote on."""
    unanswered: dict[str, str] = {}
    items: list[Item] = []
    for place, script in enumerate(scripts):
        replies = [said[place][0] for _, said in answered]
        problems = [
            f"{system.name}: {reply.problem}"
            for (system, _), reply in zip(answered, replies, strict=True)
            if reply.problem
        ]
        if problems:
            unanswered[name_of(script)] = "; ".join(problems)
            continue
        items.append(
            Item(
                prompt=name_of(script),
                system=script.system,
                user=script.turns[0].user,
                answers=tuple(reply.text for reply in replies),
                by_rule=("unsafe" if replies[0].failed_checks else "safe") if scale == "safety" else None,
            )
        )
    same = [item.prompt for item in items if _alike(item)]
    voted = sorted((item for item in items if not _alike(item)), key=lambda item: item.place)
    if not voted:
        who = " and ".join(system.name for system, _ in answered)
        why = "answered every prompt in the same words" if same else "answered no prompt"
        raise ThousandError(f"{who} {why}; there is nothing to vote on.")
    return Sheet(
        scale=scale,
        set=of,
        file=file,
        sha256=sha256,
        systems=tuple(system for system, _ in answered),
        items=tuple(voted),
        same=tuple(same),
        unanswered=unanswered,
        left_out=tuple(left_out),
    )


def _alike(item: Item) -> bool:
    return len(item.answers) == 2 and item.answers[0].strip() == item.answers[1].strip()
