"""The multi-turn template, the only one: messages to token ids, and to the labels that are learnt from.

Structure and content are tokenised apart. Role markers are token ids put in here; what a person typed goes through
a tokenizer that knows no control token, so no spelling of one can forge a turn (assistant/content.py).

The token that ends an answer never stands in a prompt. In the context each turn is closed by the family's end-of-turn
token, but the *label* after the last token of an assistant turn is the model's own EOS. Every engine stops on EOS by
itself, and a repetition penalty that counts prompt tokens cannot push it down in later turns. (The paper, section 3,
uses a separate end-of-turn token for both; a base without an EOS of its own falls back to that.)
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from assistant.content import ContentEncoder
from assistant.dialogue import Message
from assistant.errors import ThousandError
from assistant.families import FAMILIES, PLAIN, Family, family_of
from assistant.token_bytes import token_bytes

IGNORE = -100
"""The label of a position that is not learnt from."""


@dataclass(frozen=True)
class Rendered:
    """Token ids and what is to be predicted after each.

    `labels[i]` is the token to predict after `ids[: i + 1]`, or IGNORE; both have the same length.
    `turn_ends[k]` is the number of ids up to and including turn k.
    """

    ids: list[int]
    labels: list[int]
    turn_ends: list[int]

    @property
    def supervised(self) -> int:
        """How many positions are learnt from."""
        return sum(label != IGNORE for label in self.labels)


@dataclass(frozen=True)
class Cut:
    """A rendered dialogue that fits, and a sentence on what was left out (None when it fits whole)."""

    rendered: Rendered
    report: str | None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ThousandError(f"{path} is no JSON: {error}") from None
    return value


def _token_text(value: Any) -> str | None:
    """A special token as tokenizer_config.json writes it: a string, or an object with `content`."""
    return value.get("content") if isinstance(value, dict) else value


StopRule = Literal["eos", "end_of_turn"]
"""What the last label of an answer is: the base's own EOS, or the paper's separate end-of-turn token."""

Special = Literal["bos", "eos"]
SPECIAL: tuple[Special, ...] = ("bos", "eos")


def special_token(folder: Path, kind: Special, tokenizer: Tokenizer) -> str | None:
    """The BOS or EOS token of a model folder as the tokenizer's own files name it; a null there means that there is none.

    GPT-2's files name no EOS; then the model's configuration decides. (For BOS it is not asked: transformers writes a
    default there whether the model has one or not.)
    """
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        file = folder / name
        named = _read_json(file) if file.exists() else {}
        if f"{kind}_token" in named:
            return _token_text(named[f"{kind}_token"])
    file = folder / "config.json"
    token = _read_json(file).get("eos_token_id") if kind == "eos" and file.exists() else None
    return tokenizer.id_to_token(token) if isinstance(token, int) else None


class Template:
    """Messages to ids for one tokenizer. Build it with `Template.load(folder)`."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        bos: str | None,
        eos: str | None,
        stop: StopRule = "eos",
        family: Family | None = None,
    ) -> None:
        """`family` is found by the tokenizer's turn tokens unless it is given. With `stop="end_of_turn"` answers end with
        the family's end-of-turn token even where the base has an EOS.

        Raises ThousandError when turns could be forged, or when no token is left that can end an answer.

        An EOS that is a turn token of the family (instruct models) stands in every prompt, so that the end-of-turn
        token is the stop label. An EOS that is the BOS too (SmolLM2, OPT, GPT-2) is the stop label, and no prompt
        begins with it.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self._content = ContentEncoder(tokenizer)
        self.control = self._content.control
        self._control_ids = frozenset(self.control.values())
        self.family = family or family_of(self.control)
        turn_tokens = (self.family.open, self.family.close)
        own_eos = eos if eos in self.control and eos not in turn_tokens else None
        if stop == "end_of_turn" and self.family is not PLAIN:
            own_eos = None
        if own_eos is None and self.family is PLAIN:
            known = ", ".join(f"{family.name} ({family.open})" for family in FAMILIES)
            raise ThousandError(
                "The base model's tokenizer has the turn tokens of no known family, and no EOS token that could end "
                f"an answer in the plain one; known are {known}. Choose another base model."
            )
        self.bos = bos if bos in self.control and bos not in (eos, *turn_tokens) else None
        self.stop_rule: StopRule = "eos" if own_eos else "end_of_turn"
        self.stop_id = self.control[own_eos or self.family.close]
        self.byte_of = token_bytes(tokenizer)
        self._start = [self.control[self.bos]] if self.bos else []
        if self.family is PLAIN:
            self._mark_with_text()
        else:
            self._closing = self._encode_markers(f"{self.family.close}\n")
            self._headers = {role: self._encode_markers(f"{self.family.header(role)}\n") for role in self.family.roles}
            self._first_headers = self._headers

    def _mark_with_text(self) -> None:
        """The plain family's markers, and a ban on their ids in contents.

        The first header may have other ids: many tokenizers put a space before the first word of a text.
        """
        roles = self.family.roles
        headers = {role: self.family.header(role) for role in roles}
        self._closing = self._content.plain("\n")
        self._headers = {role: self._content.plain(f"{headers[role]}\n") for role in roles}
        self._first_headers = {role: self._encode_first(f"{headers[role]}\n") for role in roles}
        for role, header in headers.items():
            for ids in (self._content.plain(header), self._encode_first(header)):
                self._content.forbid(header, ids)
            for ids in (self._headers[role], self._first_headers[role]):
                self._content.forbid(header, ids)

    def _encode_markers(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _encode_first(self, text: str) -> list[int]:
        """The ids of text at the beginning of a prompt, after the BOS if there is one."""
        return self._encode_markers((self.bos or "") + text)[len(self._start) :]

    @classmethod
    def load(cls, folder: Path, stop: StopRule = "eos", family: Family | None = None) -> "Template":
        """The template of the tokenizer saved in `folder` (tokenizer.json and tokenizer_config.json).

        Raises ThousandError when there is none, or when it cannot be used.
        """
        file, config_file = folder / "tokenizer.json", folder / "tokenizer_config.json"
        for needed in (file, config_file):
            if not needed.exists():
                raise ThousandError(f"{folder} holds no {needed.name}; a base model needs a fast tokenizer.")
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise ThousandError(f"{file} cannot be read as a tokenizer: {error}") from None
        bos, eos = (special_token(folder, kind, tokenizer) for kind in SPECIAL)
        return cls(tokenizer, bos=bos, eos=eos, stop=stop, family=family)

    def control_spellings(self, text: str) -> list[str]:
        """The control tokens and markers that `text` holds: what a back end that takes only text must refuse."""
        return self._content.spelled(text)

    def render(self, messages: Sequence[Message]) -> Rendered:
        """A whole dialogue, as it is trained on: every assistant turn supervised, its last token followed by the stop label.

        The last turn may be the user's; nothing after the last answer is supervised.
        """
        ids = list(self._start)
        labels = [IGNORE] * len(ids)
        turn_ends: list[int] = []
        for message in messages:
            header = (self._headers if turn_ends else self._first_headers)[message.role]
            content = self._content.encode(message.content)
            ids += header + content + self._closing
            if message.role == "assistant":
                labels += [IGNORE] * (len(header) - 1) + content + [self.stop_id] + [IGNORE] * len(self._closing)
            else:
                labels += [IGNORE] * (len(header) + len(content) + len(self._closing))
            turn_ends.append(len(ids))
        return Rendered(ids, labels, turn_ends)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids after which the assistant's next answer begins."""
        return self.render(messages).ids + self._headers["assistant"]

    def continuation(self, text: str) -> list[int]:
        """The ids of a text that is to be gone on with, no conversation: after the BOS, and without a control token,
        whatever it spells."""
        return self._start + self._content.encode(text)

    def octets(self, token: int) -> bytes | None:
        """What a token says, as UTF-8, which may be a part of a character; None for a control token."""
        if token in self._control_ids:
            return None
        if token in self.byte_of:
            return self.byte_of[token]
        # Many tokenizers drop the space before the first word of a text.
        before = self._content.plain("a")
        said: str = self.tokenizer.decode([*before, token], skip_special_tokens=False)
        return said[len(self.tokenizer.decode(before, skip_special_tokens=False)) :].encode()

    def as_text(self, ids: Sequence[int]) -> str:
        """A prompt's ids as the text in which this tokenizer finds them again, for back ends that take only text: without
        the BOS where the tokenizer puts one before every text itself. No content may hold `control_spellings`."""
        own_bos = bool(self._start) and self.tokenizer.encode("").ids[:1] == self._start
        text: str = self.tokenizer.decode(list(ids)[len(self._start) if own_bos else 0 :], skip_special_tokens=False)
        return text

    def render_within(self, messages: Sequence[Message], limit: int) -> Cut:
        """`render`, cut to at most `limit` ids, not counting what closes the last turn.

        Whole turns are dropped from the end while an answer is left. When not even the first answer fits, it is cut
        inside and keeps no stop label, so that nothing teaches the model to end in mid-sentence; when not even the
        prompt fits, nothing is left to learn from.
        """
        whole = self.render(messages)
        # Nothing is learnt from the closing marker and newline of the last turn, so they need not fit.
        ends = [end - len(self._closing) for end in whole.turn_ends]
        if ends[-1] <= limit:
            return Cut(whole, None)
        kept = [turn for turn, message in enumerate(messages) if message.role == "assistant" and ends[turn] <= limit]
        if kept:
            end, left_out = whole.turn_ends[kept[-1]], len(messages) - kept[-1] - 1
            rendered = Rendered(whole.ids[:end], whole.labels[:end], whole.turn_ends[: kept[-1] + 1])
            return Cut(rendered, f"has {ends[-1]} tokens and {limit} fit; its last {left_out} turns were left out")
        rendered = Rendered(whole.ids[:limit], whole.labels[:limit], [limit])
        if rendered.supervised == 0:
            return Cut(
                rendered,
                f"has {ends[-1]} tokens and {limit} fit; its prompt alone is too long, so nothing is learnt from it",
            )
        return Cut(rendered, f"has {ends[-1]} tokens and {limit} fit; its first answer was cut and keeps no stop token")

    def jinja(self) -> str:
        """The same template for other tools (`chat_template`).

        It gives the same ids for every dialogue whose contents are stripped and hold no control token's spelling. In the
        plain family this holds for tokenizers that never join a newline with what stands before it (GPT-2, Llama 2).
        """
        names = json.dumps(self.family.roles)
        bos = "{{ bos_token }}" if self.bos else ""
        return (
            f"{{%- set names = {names} -%}}{bos}"
            "{%- for message in messages -%}"
            f"{{{{ '{self.family.open}' + names[message['role']] + '\\n' + message['content'] + '{self.family.close}\\n' }}}}"
            "{%- endfor -%}"
            f"{{%- if add_generation_prompt -%}}{{{{ '{self.family.open}' + names['assistant'] + '\\n' }}}}{{%- endif -%}}"
        )

    def record(self) -> dict[str, Any]:
        """What a release keeps of its template."""
        return {"family": self.family.name, "stop_rule": self.stop_rule, "stop_id": self.stop_id, "bos": self.bos}
