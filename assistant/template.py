"""The multi-turn template, the only one: messages to token ids, and to the labels that are learnt from.

Structure and content are tokenised apart. Role markers are token ids put in here; what a person typed goes through
a tokenizer that knows no control token, so no spelling of one can forge a turn.

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

from pydantic import BaseModel, ConfigDict
from tokenizers import Tokenizer

from assistant.dialogue import Message, Role
from assistant.errors import ThousandError

IGNORE = -100
"""The label of a position that is not learnt from."""

_HTML = frozenset(
    [
        "a",
        "b",
        "blockquote",
        "body",
        "caption",
        "code",
        "div",
        "em",
        "footer",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "html",
        "i",
        "iframe",
        "img",
        "li",
        "s",
        "span",
        "strong",
        "sub",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "u",
        "ul",
    ]
)
"""HTML tags are content even where a tokenizer has whole tokens for them."""


class Family(BaseModel):
    """The turn markers of a family of models: `open` + role name + newline + content + `close` + newline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    open: str
    close: str
    roles: dict[Role, str]


FAMILIES = (
    Family(
        name="gemma",
        open="<start_of_turn>",
        close="<end_of_turn>",
        roles={"system": "system", "user": "user", "assistant": "model"},
    ),
    Family(
        name="chatml",
        open="<|im_start|>",
        close="<|im_end|>",
        roles={"system": "system", "user": "user", "assistant": "assistant"},
    ),
)


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


def _is_control(token: dict[str, Any]) -> bool:
    text: str = token["content"]
    if not text.strip():
        return False
    return bool(token["special"]) or text.strip("</>") not in _HTML


def _without_control_tokens(tokenizer: Tokenizer) -> tuple[Tokenizer, dict[str, int]]:
    """The tokenizer for content, and the control tokens (spelling to id) it no longer knows.

    Taking the added tokens out is surer than asking an encoder not to parse them: Gemma's `[multimodal]` is no
    "special" token and would still match.
    """
    state = json.loads(tokenizer.to_str())
    control = {token["content"]: token["id"] for token in state["added_tokens"] if _is_control(token)}
    kept = [token for token in state["added_tokens"] if token["content"] not in control]
    # Added tokens that are not in the model's vocabulary are numbered anew on loading, so those kept are put into it.
    if isinstance(state["model"]["vocab"], dict):
        state["model"]["vocab"].update({token["content"]: token["id"] for token in kept})
    state["added_tokens"] = kept
    state["post_processor"] = state["truncation"] = state["padding"] = None
    content = Tokenizer.from_str(json.dumps(state))
    moved = [token["content"] for token in kept if content.token_to_id(token["content"]) != token["id"]]
    if moved:
        raise ThousandError(
            f"This tokenizer's token {moved[0]!r} cannot be kept apart from control tokens; it cannot be used."
        )
    forged = [text for text, id_ in control.items() if id_ in content.encode(text, add_special_tokens=False).ids]
    if forged:
        raise ThousandError(
            f"This tokenizer builds the control token {forged[0]!r} out of ordinary text, so a user could forge turns; it cannot be used."
        )
    return content, control


def _byte_tokens(tokenizer: Tokenizer) -> dict[int, int]:
    """The tokens that stand for one byte each (`<0x0A>`), where the tokenizer falls back to bytes; else nothing."""
    letter = tokenizer.token_to_id("<0x41>")
    if letter is None or tokenizer.decode([letter]) != "A":
        return {}
    ids = {tokenizer.token_to_id(f"<0x{byte:02X}>"): byte for byte in range(256)}
    return {token: byte for token, byte in ids.items() if token is not None}


class Template:
    """Messages to ids for one tokenizer. Build it with `Template.load(folder)`."""

    def __init__(self, tokenizer: Tokenizer, *, bos: str | None, eos: str | None) -> None:
        self.tokenizer = tokenizer
        self._content, self.control = _without_control_tokens(tokenizer)
        for family in FAMILIES:
            if family.open in self.control and family.close in self.control:
                self.family = family
                break
        else:
            known = ", ".join(f"{family.name} ({family.open})" for family in FAMILIES)
            raise ThousandError(
                f"The base model's tokenizer has the turn tokens of no known family; known are {known}. Choose another base model."
            )
        self.bos = bos if bos in self.control and bos not in (eos, self.family.open, self.family.close) else None
        self._open = self.control[self.family.open]
        self._close = self.control[self.family.close]
        own_eos = eos if eos in self.control and eos not in (bos, self.family.close) else None
        self.stop_rule: Literal["eos", "end_of_turn"] = "eos" if own_eos else "end_of_turn"
        self.stop_id = self.control[own_eos] if own_eos else self._close
        self._newline = self._encode("\n")
        self.byte_of = _byte_tokens(tokenizer)
        self._headers = {role: [self._open, *self._encode(f"{name}\n")] for role, name in self.family.roles.items()}

    @classmethod
    def load(cls, folder: Path) -> "Template":
        """The template of the tokenizer saved in `folder` (tokenizer.json and tokenizer_config.json).

        Raises ThousandError when there is none, or when its turn tokens are of no known family.
        """
        file, config_file = folder / "tokenizer.json", folder / "tokenizer_config.json"
        for needed in (file, config_file):
            if not needed.exists():
                raise ThousandError(f"{folder} holds no {needed.name}; a base model needs a fast tokenizer.")
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise ThousandError(f"{file} cannot be read as a tokenizer: {error}") from None
        config = _read_json(config_file)
        return cls(tokenizer, bos=_token_text(config.get("bos_token")), eos=_token_text(config.get("eos_token")))

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._content.encode(text, add_special_tokens=False).ids
        return ids

    def control_spellings(self, text: str) -> list[str]:
        """The control tokens whose spelling `text` holds: what a back end that takes only text must refuse."""
        return [spelling for spelling in self.control if spelling in text]

    def render(self, messages: Sequence[Message]) -> Rendered:
        """A whole dialogue, as it is trained on: every assistant turn supervised, its last token followed by the stop label.

        The last turn may be the user's; nothing after the last answer is supervised.
        """
        ids = [self.control[self.bos]] if self.bos else []
        labels = [IGNORE] * len(ids)
        turn_ends: list[int] = []
        for message in messages:
            header, content = self._headers[message.role], self._encode(message.content)
            ids += header + content + [self._close] + self._newline
            if message.role == "assistant":
                labels += [IGNORE] * (len(header) - 1) + content + [self.stop_id] + [IGNORE] * (1 + len(self._newline))
            else:
                labels += [IGNORE] * (len(header) + len(content) + 1 + len(self._newline))
            turn_ends.append(len(ids))
        return Rendered(ids, labels, turn_ends)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids after which the assistant's next answer begins."""
        return self.render(messages).ids + self._headers["assistant"]

    def render_within(self, messages: Sequence[Message], limit: int) -> Cut:
        """`render`, cut to at most `limit` ids, not counting what closes the last turn.

        Whole turns are dropped from the end while an answer is left. When not even the first answer fits, it is cut
        inside and keeps no stop label, so that nothing teaches the model to end in mid-sentence; when not even the
        prompt fits, nothing is left to learn from.
        """
        whole = self.render(messages)
        # Nothing is learnt from the closing marker and newline of the last turn, so they need not fit.
        closing = 1 + len(self._newline)
        ends = [end - closing for end in whole.turn_ends]
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

        It gives the same ids for every dialogue whose contents are stripped and hold no control token's spelling.
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
