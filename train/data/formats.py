"""The formats that dialogues travel in: LIMA, OpenAI messages, ShareGPT, Alpaca, and our own.

Each has one function that reads an object and one that writes a dialogue. Reading gives what `Dialogue` takes and the names of
the fields that found no place in it; it raises ValueError with the reason when the object cannot become a dialogue.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from assistant.dialogue import Dialogue

Object = dict[str, Any]
Read = tuple[Object, set[str]]

_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
}
_FOR_PEOPLE = ("id", "source", "topic", "license")
_OWN = (*_FOR_PEOPLE, "checks", "provenance")


def _fields(value: Object, messages: list[Object], taken: set[str], left: set[str] | None = None) -> Read:
    """What `Dialogue` takes: the messages, and those fields of ours that a foreign object has too; the rest is left out."""
    found: Object = {"messages": messages}
    for name in _FOR_PEOPLE:
        given = value.get(name)
        if isinstance(given, str | int) and not isinstance(given, bool) and given != "":
            found[name] = str(given)
    found.update((name, value[name]) for name in ("checks", "provenance") if name in value)
    present = {name for name in value if value[name] not in (None, "", [], {})}
    return found, present - taken - found.keys() | (left or set())


def _list(value: Object, name: str) -> list[Any]:
    found = value.get(name) or []
    if not isinstance(found, list):
        raise ValueError(f"{name}: is a {type(found).__name__}; it must be a list")
    return found


def _optional_text(value: Object, name: str) -> str:
    found = value.get(name)
    if found is not None and not isinstance(found, str):
        raise ValueError(f"{name}: is a {type(found).__name__}; it must be text")
    return found or ""


def _text(content: object, place: str) -> str:
    """A content that is text, or a list of parts that are all text. Raises ValueError."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"{place}: holds no text")
    parts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ValueError(f"{place}: has a part of type {kind!r}; a dialogue is text only")
        parts.append(part["text"])
    return "".join(parts)


def _read_openai(value: Object) -> Read:
    messages: list[Object] = []
    left: set[str] = set()
    for number, message in enumerate(_list(value, "messages")):
        place = f"messages[{number}]"
        if not isinstance(message, dict):
            raise ValueError(f"{place}: is no object")
        for name in ("tool_calls", "function_call"):
            if message.get(name):
                raise ValueError(f"{place}.{name}: a dialogue has no tool calls")
        if message.get("weight") == 0:
            raise ValueError(
                f"{place}.weight: is 0, an answer not to learn from; every answer of a dialogue is learnt from"
            )
        role = "system" if message.get("role") == "developer" else message.get("role")
        messages.append({"role": role, "content": _text(message.get("content"), f"{place}.content")})
        left |= {f"messages.{name}" for name in message.keys() - {"role", "content"} if message[name] is not None}
    return _fields(value, messages, {"messages"}, left)


def _read_own(value: Object) -> Read:
    return value, set()


def _read_lima(value: Object) -> Read:
    messages: list[Object] = [
        {"role": "assistant" if number % 2 else "user", "content": said}
        for number, said in enumerate(_list(value, "conversations"))
    ]
    return _fields(value, messages, {"conversations"})


def _read_sharegpt(value: Object) -> Read:
    system = _optional_text(value, "system")
    messages: list[Object] = [{"role": "system", "content": system}] if system else []
    left: set[str] = set()
    for number, turn in enumerate(_list(value, "conversations")):
        place = f"conversations[{number}]"
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            raise ValueError(f"{place}: has no `value` of text")
        role = _SHAREGPT_ROLES.get(str(turn.get("from")))
        if role is None:
            raise ValueError(f"{place}.from: is {turn.get('from')!r}; a dialogue knows {', '.join(_SHAREGPT_ROLES)}")
        messages.append({"role": role, "content": turn["value"]})
        left |= {f"conversations.{name}" for name in turn.keys() - {"from", "value"} if turn[name] is not None}
    return _fields(value, messages, {"conversations", "system"}, left)


def _read_alpaca(value: Object) -> Read:
    if "output" not in value:
        raise ValueError("output: is missing; the answer of an Alpaca line stands there (it may be empty)")
    system = _optional_text(value, "system")
    messages: list[Object] = [{"role": "system", "content": system}] if system else []
    for number, pair in enumerate(_list(value, "history")):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"history[{number}]: is not a pair of prompt and answer")
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    asked = [part for part in (_optional_text(value, "instruction"), _optional_text(value, "input")) if part]
    messages.append({"role": "user", "content": "\n\n".join(asked)})
    output = _optional_text(value, "output")
    if output:
        messages.append({"role": "assistant", "content": output})
    return _fields(value, messages, {"instruction", "input", "output", "system", "history"})


def _write_own(dialogue: Dialogue) -> Object:
    return dialogue.model_dump(exclude_none=True)


def _write_openai(dialogue: Dialogue) -> Object:
    return {"messages": [message.model_dump() for message in dialogue.messages]}


def _write_lima(dialogue: Dialogue) -> Object:
    if dialogue.messages[0].role == "system":
        raise ValueError("has a system message, which the LIMA format has no place for")
    return {"conversations": [message.content for message in dialogue.messages], "source": dialogue.source or ""}


def _write_sharegpt(dialogue: Dialogue) -> Object:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    turns = [{"from": names[message.role], "value": message.content} for message in dialogue.messages]
    return {**({"id": dialogue.id} if dialogue.id else {}), "conversations": turns}


def _write_alpaca(dialogue: Dialogue) -> Object:
    said = [message.content for message in dialogue.messages]
    system = [said.pop(0)] if dialogue.messages[0].role == "system" else []
    if len(said) % 2:
        said.append("")
    *earlier, instruction, output = said
    history = [[earlier[i], earlier[i + 1]] for i in range(0, len(earlier), 2)]
    return {
        "instruction": instruction,
        "input": "",
        "output": output,
        **({"system": system[0]} if system else {}),
        **({"history": history} if history else {}),
    }


@dataclass(frozen=True)
class Format:
    """One way to write dialogues down."""

    read: Callable[[Object], Read]
    write: Callable[[Dialogue], Object]
    keeps: frozenset[str]
    """The fields of a dialogue, besides its messages, that stay when it is written."""


FORMATS = {
    "thousand": Format(_read_own, _write_own, frozenset(_OWN)),
    "openai": Format(_read_openai, _write_openai, frozenset()),
    "lima": Format(_read_lima, _write_lima, frozenset({"source"})),
    "sharegpt": Format(_read_sharegpt, _write_sharegpt, frozenset({"id"})),
    "alpaca": Format(_read_alpaca, _write_alpaca, frozenset()),
}


def _is_own(value: Object) -> bool:
    messages = value["messages"]
    if not value.keys() <= {"messages", *_OWN} or not isinstance(value.get("id", ""), str):
        return False
    return isinstance(messages, list) and all(
        isinstance(message, dict)
        and message.keys() <= {"role", "content"}
        and message.get("role") != "developer"
        and not isinstance(message.get("content"), list)
        for message in messages
    )


def format_of(value: Object) -> str:
    """The name of the format an object is in. Raises ValueError when it is in none."""
    if "messages" in value:
        return "thousand" if _is_own(value) else "openai"
    turns = value.get("conversations")
    if isinstance(turns, list):
        return "lima" if all(isinstance(turn, str) for turn in turns) else "sharegpt"
    if "instruction" in value:
        return "alpaca"
    raise ValueError(
        "is in no known format: neither `messages` (ours, OpenAI), `conversations` (LIMA, ShareGPT) nor `instruction` (Alpaca)"
    )
