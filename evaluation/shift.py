"""Base and release token by token, on the release's own answers: what did training change?

The method of URIAL (Lin et al. 2023, arXiv 2312.01552, section 2): at every place of an answer, the likeliest token of the release is
looked up in the base's distribution over the same context. If alignment teaches the manner alone (Zhou et al. 2023, section 2), most
tokens are the base's own first choice.

The base reads the same rendered prompt, as in that paper, so that nothing differs but the weights. It has never seen the turn
markers trained, though, and no end of a turn; so it is looked at a second time after a preamble and three examples as
plain text (`evaluation.urial`), where it knows what it is to do: what is shifted there too is not the format of a conversation. There
the end of an answer is the line end that begins the user's next turn.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

import assistant
from assistant import base_model, opening, release
from assistant.base_model import Base, Say
from assistant.dialogue import Message
from assistant.errors import ThousandError
from assistant.families import PLAIN
from assistant.held_out import ScriptedConversation
from assistant.release import Release
from assistant.template import IGNORE, Rendered, Template
from assistant.vocabulary import with_vocabulary
from evaluation import dev
from evaluation.asking import ask
from evaluation.dev import repeated_share
from evaluation.intervals import Interval
from evaluation.sets import Reply, name_of
from evaluation.shift_record import MANNER, NEAR, SPANS, Answer, Compared, OfKind, Shares, Shift, Span, Token, TokenKind
from evaluation.shift_words import kind_of
from evaluation.systems import open_system
from evaluation.tables import changed_remark
from evaluation.urial import with_examples
from serve.start import EngineName

Progress = Callable[[int, int, str], None]
"""Told how much of how much is done, and what of."""


class _Both:
    """The base and the release. An adapter is switched off for the base, so that both have the same weights beneath."""

    def __init__(self, place: Path, record: Release, base: Base, say: Say) -> None:
        base_model.quiet_transformers()
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        adapter = opening.adapter_of(place, record)
        self._release = self._load(base, say)
        if adapter is None:
            whole = with_vocabulary(base_model.resolve(record.base, say), record.vocabulary, say)
            self._base = self._load(whole, say)
            self._without: Callable[[], AbstractContextManager[Any]] = nullcontext
        else:
            from peft import PeftModel

            self._release = PeftModel.from_pretrained(self._release, adapter).eval()
            self._base, self._without = self._release, self._release.disable_adapter

    def _load(self, base: Base, say: Say) -> Any:
        # In float32: ranks are decided by small differences.
        model = AutoModelForCausalLM.from_pretrained(
            base_model.weights_folder(base, say), dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
        return model.to(self._device).eval()

    def _logits(self, model: Any, ids: Sequence[int], places: Sequence[int]) -> Tensor:
        # One answer at a time: its tokens are batch enough, and none is padding.
        kept = torch.tensor(list(places), device=self._device)
        read = torch.tensor([list(ids)], device=self._device)
        found: Tensor = model(input_ids=read, logits_to_keep=kept, use_cache=False).logits[0]
        return found

    def release(self, ids: Sequence[int], places: Sequence[int]) -> Tensor:
        """The release's logits (n, V) after the given places of a text."""
        return self._logits(self._release, ids, places)

    def base(self, ids: Sequence[int], places: Sequence[int]) -> Tensor:
        """The base's."""
        with self._without():
            return self._logits(self._base, ids, places)


def ranks(logits: Tensor, tokens: Sequence[int]) -> list[int]:
    """The rank (from 1) of each token among its row of `logits` (n, V): one more than there are likelier ones."""
    wanted = torch.tensor(list(tokens), device=logits.device)[:, None]
    found: list[int] = ((logits > logits.gather(1, wanted)).sum(-1) + 1).tolist()
    return found


def _places(rendered: Rendered) -> list[int]:
    """The places of a rendered dialogue after which the tokens of its last answer, and its end, are foretold."""
    begin = rendered.turn_ends[-2]
    return [place for place in range(begin, rendered.turn_ends[-1]) if rendered.labels[place] != IGNORE]


def _said(script: ScriptedConversation) -> list[Message]:
    system = [Message(role="system", content=script.system)] if script.system else []
    return [*system, Message(role="user", content=script.turns[0].user)]


@dataclass(frozen=True)
class _Looking:
    """What answers are looked at with."""

    both: _Both
    template: Template
    plain: Template
    """For the base with examples in its context."""

    def _text(self, token: int) -> str:
        octets = self.template.octets(token)
        return "" if octets is None else octets.decode(errors="replace")

    def answer(self, script: ScriptedConversation, reply: Reply) -> Answer | None:
        """Every place of an answer; None when it spells a marker of the plain template, and so has other tokens there."""
        said, given = _said(script), Message(role="assistant", content=reply.text)
        rendered, shown = self.template.render([*said, given]), self.plain.render(with_examples([*said, given]))
        places, in_context = _places(rendered), _places(shown)
        written = [rendered.labels[place] for place in places]
        if written[:-1] != [shown.labels[place] for place in in_context][:-1]:
            return None
        if not reply.stopped:  # it was cut, so there is no end to foretell
            places, in_context, written = places[:-1], in_context[:-1], written[:-1]
        chosen = self.both.release(rendered.ids, places).argmax(-1).tolist()
        of_base = self.both.base(rendered.ids, places)
        # In the plain template an answer is ended by what begins the next turn.
        ends = shown.ids[in_context[-1] + 1] if reply.stopped else self.template.stop_id
        wanted = [ends if token == self.template.stop_id else token for token in chosen]
        with_them = ranks(self.both.base(shown.ids, in_context), wanted)
        first, after_prompt = of_base.argmax(-1).tolist(), ranks(of_base, chosen)
        tokens, before = [], ""
        for place, token in enumerate(chosen):
            text = self._text(token)
            tokens.append(
                Token(
                    text=self._text(written[place]),
                    choice=text,
                    base=self._text(first[place]),
                    rank=after_prompt[place],
                    rank_with_examples=with_them[place],
                    kind=kind_of(text, before, place, stop=token == self.template.stop_id),
                )
            )
            before += self._text(written[place])
        return Answer(id=name_of(script), prompt=script.turns[0].user, tokens=tuple(tokens))

    def text(self, said: Sequence[Message], given: str) -> tuple[list[int], list[int]]:
        """The ranks of a text's own tokens in the base and in the release."""
        rendered = self.template.render([*said, Message(role="assistant", content=given)])
        places = _places(rendered)[:-1]
        written = [rendered.labels[place] for place in places]
        of_base, of_release = (of(rendered.ids, places) for of in (self.both.base, self.both.release))
        return ranks(of_base, written), ranks(of_release, written)


def compared(answers: Sequence[Answer], rank: Callable[[Token], int]) -> Compared:
    """The answers by one of the two ranks of their tokens."""
    shifted = [[rank(token) > NEAR for token in one.tokens] for one in answers]
    kinds: defaultdict[TokenKind, list[list[bool]]] = defaultdict(list)
    manner = []
    for one, at in zip(answers, shifted, strict=True):
        of_answer: defaultdict[TokenKind, list[bool]] = defaultdict(list)
        for token, is_shifted in zip(one.tokens, at, strict=True):
            of_answer[token.kind].append(is_shifted)
        for kind, found in of_answer.items():
            kinds[kind].append(found)
        if any(at):
            manner.append(sum(sum(found) for kind, found in of_answer.items() if kind in MANNER) / sum(at))
    spans = []
    for first, last in SPANS:
        parts = [part for at in shifted if (part := at[first - 1 : last])]
        if parts:
            shares = Interval.of([sum(part) / len(part) for part in parts])
            spans.append(Span(first=first, last=last, answers=len(parts), shifted=shares))
    return Compared(
        shares=Shares.of([[rank(token) for token in one.tokens] for one in answers]),
        kinds=tuple(
            OfKind(
                kind=kind,
                places=sum(map(len, found)),
                shifted=sum(map(sum, found)),
                share=Interval.of([sum(part) / len(part) for part in found]),
            )
            for kind, found in kinds.items()
        ),
        manner=Interval.of(manner) if manner else None,
        spans=tuple(spans),
    )


def _shown(answers: Sequence[Answer]) -> str:
    """The answer for the picture: of the middle third by length the one whose share of shifted tokens is the middle one."""
    by_length = sorted(answers, key=lambda one: len(one.tokens))
    third = len(by_length) // 3
    some = by_length[third : len(by_length) - third]
    some.sort(key=lambda one: sum(token.rank > NEAR for token in one.tokens) / len(one.tokens))
    return some[len(some) // 2].id


@torch.no_grad()
def measure_shift(
    name: str,
    prompts: Path | None,
    *,
    settings: dict[str, Any],
    engine: EngineName,
    say: Say,
    progress: Progress,
) -> Shift:
    """Have a release answer, and look up each of its tokens in its base.

    `prompts` is a file of single-turn prompts, by default the dev set. `engine` answers, and answers are kept as they come
    (`evaluation.asking`); they are looked at with transformers. Raises ThousandError when the release cannot be had, or nothing was answered.
    """
    place = release.path(name, say)
    record = release.read(place)
    asked = dev.prompt_set(prompts, say)
    references = {
        name_of(prompt): prompt.answers[-1]
        for prompt in dev.read_prompts(prompts)
        if prompt.messages[-1].role == "assistant"
    }
    system = open_system(name, record, engine=engine, say=say, settings=settings)
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        progress(done, 2 * asked.turns, "answered")

    answered = ask(system, [asked], more)
    for line in changed_remark(system.name, answered.changed):
        say(line)
    (replies,) = answered.replies
    base, template = opening.open_parts(place, record, say)
    folder = base_model.weights_folder(base, say)
    looking = _Looking(_Both(place, record, base, say), template, Template.load(folder, family=PLAIN))
    answers, of_base, of_release, kept = [], [], [], []
    left_out = list(asked.left_out)
    for script, (reply,) in zip(asked.scripts, replies, strict=True):
        if name_of(script) in references:
            in_base, in_release = looking.text(_said(script), references[name_of(script)])
            of_base.append(in_base)
            of_release.append(in_release)
        found = looking.answer(script, reply) if reply.outcome == "answered" else None
        if found is None:
            why = "spells a marker of the plain template" if reply.outcome == "answered" else reply.outcome
            left_out.append(f"{name_of(script)}: {why}")
        else:
            answers.append(found)
            kept.append(reply)
        done += 1
        progress(done, 2 * asked.turns, "compared")
    if not answers:
        raise ThousandError(f"{name} gave no answer to look at: {'; '.join(left_out)}.")
    return Shift(
        release=name,
        adapter_sha256=record.adapter_sha256,
        base=record.base_name,
        made=release.now(),
        version=assistant.__version__,
        sampling=system.sampling,
        prompts_sha256=asked.sha256,
        left_out=tuple(left_out),
        places=sum(len(one.tokens) for one in answers),
        stopped=Interval.of_share([float(reply.stopped) for reply in kept]),
        repeated=Interval.of([repeated_share(reply.text) for reply in kept]),
        as_written=Interval.of(
            [sum(token.text == token.choice for token in one.tokens) / len(one.tokens) for one in answers]
        ),
        same_prompt=compared(answers, lambda token: token.rank),
        with_examples=compared(answers, lambda token: token.rank_with_examples),
        text_in_base=Shares.of(of_base) if of_base else None,
        text_in_release=Shares.of(of_release) if of_release else None,
        shown=_shown(answers),
        answers=tuple(answers),
    )
