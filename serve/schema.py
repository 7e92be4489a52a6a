"""JSON schemas of requests, cut down to what every grammar honours and what no engine can be harmed with.

A grammar ignores the keywords it does not know, follows references for ever, and tries every alternative at once, in the
process that serves everybody. So a schema is read here, whole: what cannot be honoured is refused by name, references are put
in, and its size has bounds. What comes out says the same without titles and descriptions, or less (an object with `properties`
gets no others), so that whatever fits it fits the one that was sent.
"""

from collections.abc import Mapping
from typing import Any

from assistant.dialogue import is_text

MOST_LEVELS = 10
MOST_PARTS = 200
"""Schemas within a schema, references put in."""
MOST_TEXT = 10_000
"""Characters of all names and values."""
LONGEST_NAME = 64
MOST_ITEMS = 100
"""`minItems` and `maxItems`."""
LONGEST_STRING = 1000
"""`minLength` and `maxLength`."""
LARGEST = 2**53
"""The bounds of an integer."""
WIDEST = 128
"""Values of an `enum`, optional properties and other alternatives that a grammar follows at once."""

SAYS_NOTHING = frozenset(
    {"title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly"}
)
KEYWORDS: dict[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "format"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "number": frozenset(),
    "boolean": frozenset(),
    "null": frozenset(),
}
"""What may be said of each kind of value."""
FORMATS = ("date", "time", "date-time", "uuid")


def bounded(schema: Any) -> dict[str, Any]:
    """The schema of an object, as the engines get it. Raises ValueError that names the place and what is wrong there."""
    reader = _Reader(schema)
    found = reader.read(schema, "", 0, ())
    if found.get("type") != "object":
        raise ValueError('the schema must be of an object ("type": "object")')
    if _width(found) > WIDEST:
        raise ValueError(f"the schema has more than {WIDEST} alternatives at one place")
    return found


def _width(part: Mapping[str, Any]) -> int:
    """How many alternatives a grammar follows at once, at most."""
    if "anyOf" in part:
        return sum(_width(one) for one in part["anyOf"])
    if "enum" in part:
        return len(part["enum"])
    properties = part.get("properties", {})
    optional = len(properties) - len(part.get("required", ()))
    inside = [*properties.values(), *(part[name] for name in ("items", "additionalProperties") if part.get(name))]
    return max([1 + optional, *map(_width, inside)])


class _Reader:
    """One schema on its way through; it counts what has been read."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._parts = 0
        self._text = 0

    def read(self, part: Any, path: str, level: int, within: tuple[str, ...]) -> dict[str, Any]:
        """A part as the engines get it. `within` are the references it stands in."""
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise ValueError(f"the schema has more than {MOST_PARTS} parts, references put in")
        if level > MOST_LEVELS:
            raise ValueError(f"{path} is more than {MOST_LEVELS} levels deep")
        if not isinstance(part, Mapping):
            raise ValueError(f"{path or 'the schema'} is no schema that is supported; give an object with a type")
        rest = {name: value for name, value in part.items() if name not in SAYS_NOTHING}
        if level == 0:
            rest = {name: value for name, value in rest.items() if name not in ("$defs", "definitions")}
        if "$ref" in rest:
            _only(rest, {"$ref"}, path)
            return self._reference(rest["$ref"], path, level, within)
        if "anyOf" in rest:
            _only(rest, {"anyOf"}, path)
            return {"anyOf": [self.read(*one, level + 1, within) for one in _alternatives(rest["anyOf"], path)]}
        if "enum" in rest or "const" in rest:
            return self._values(rest, path)
        kinds = _kinds(rest.pop("type", None), path)
        _only(rest, frozenset[str]().union(*(KEYWORDS[kind] for kind in kinds)), path)
        if len(kinds) > 1:
            alone = [{name: rest[name] for name in KEYWORDS[kind] & rest.keys()} | {"type": kind} for kind in kinds]
            return {"anyOf": [self.read(one, path, level + 1, within) for one in alone]}
        kind = kinds[0]
        if kind == "object":
            return {"type": kind, **self._object(rest, path, level, within)}
        if kind == "array":
            return {"type": kind, **self._array(rest, path, level, within)}
        return {"type": kind, **_string(rest, path), **_integer(rest, path)}

    def _reference(self, name: Any, path: str, level: int, within: tuple[str, ...]) -> dict[str, Any]:
        target = self._root
        places = name.split("/") if isinstance(name, str) else []
        if len(places) != 3 or places[0] != "#" or places[1] not in ("$defs", "definitions"):
            raise ValueError(f"{_at(path, '$ref')} must be a definition of this schema, such as #/$defs/NAME")
        if name in within:
            raise ValueError(f"{_at(path, '$ref')}: a schema that holds itself is not supported")
        for place in places[1:]:
            if not isinstance(target, Mapping) or place not in target:
                raise ValueError(f"{_at(path, '$ref')}: there is no {name[:LONGEST_NAME]}")
            target = target[place]
        return self.read(target, path, level or 1, (*within, name))

    def _values(self, rest: dict[str, Any], path: str) -> dict[str, Any]:
        _only(rest, {"enum", "const", "type"}, path)
        values = rest["enum"] if "enum" in rest else [rest["const"]]
        if not isinstance(values, list) or not values or ("enum" in rest and "const" in rest):
            raise ValueError(f"{_at(path, 'enum')} must be a list of values, without a const")
        if not all(value is None or isinstance(value, str | int | float) for value in values):
            raise ValueError(f"{_at(path, 'enum')}: only text, numbers, true, false and null are supported")
        for value in values:
            self._count(str(value), path)
        kinds = _kinds(rest.get("type", list(KEYWORDS)), path)
        if not all(_types(value) & set(kinds) for value in values):
            raise ValueError(f"{_at(path, 'enum')} holds values that are not of its type")
        return {"enum": values}

    def _object(self, rest: dict[str, Any], path: str, level: int, within: tuple[str, ...]) -> dict[str, Any]:
        properties, required = rest.get("properties"), rest.get("required", [])
        others = rest.get("additionalProperties", True)
        if properties is None:
            _only(rest, {"additionalProperties"}, path)
            if others in (True, {}):
                return {}
            if others is False:
                return {"properties": {}, "additionalProperties": False}
            place = _at(path, "additionalProperties")
            return {"additionalProperties": self.read(others, place, level + 1, within)}
        if not isinstance(properties, Mapping):
            raise ValueError(f"{_at(path, 'properties')} must be an object")
        if not isinstance(required, list) or not all(isinstance(name, str) and name in properties for name in required):
            raise ValueError(f"{_at(path, 'required')} must be a list of names that are in properties")
        for name in properties:
            self._count(name, path)
            if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
                raise ValueError(f"{_at(path, 'properties')}: a name has 1 to {LONGEST_NAME} printable characters")
        read = {
            name: self.read(one, _at(path, f"properties.{name}"), level + 1, within) for name, one in properties.items()
        }
        return {"properties": read, "required": list(dict.fromkeys(required)), "additionalProperties": False}

    def _array(self, rest: dict[str, Any], path: str, level: int, within: tuple[str, ...]) -> dict[str, Any]:
        if "items" not in rest:
            _only(rest, set(), path)
            return {}
        items = self.read(rest["items"], _at(path, "items"), level + 1, within)
        return {"items": items, **_range(rest, path, "minItems", "maxItems", 0, MOST_ITEMS)}

    def _count(self, text: str, path: str) -> None:
        self._text += len(text)
        if self._text > MOST_TEXT:
            raise ValueError(f"the schema's names and values have more than {MOST_TEXT} characters")
        if not is_text(text):
            raise ValueError(f"{path or 'the schema'} holds half a surrogate pair, which is not text")


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _only(rest: Mapping[str, Any], known: set[str] | frozenset[str], path: str) -> None:
    """Refuse what is not honoured."""
    unknown = [name for name in rest if name not in known]
    if unknown:
        raise ValueError(f"{_at(path, unknown[0][:LONGEST_NAME])} is not supported there")


def _alternatives(given: Any, path: str) -> list[tuple[Any, str]]:
    if not isinstance(given, list) or not given:
        raise ValueError(f"{_at(path, 'anyOf')} must be a list of schemas")
    return [(one, _at(path, f"anyOf.{number}")) for number, one in enumerate(given)]


def _kinds(given: Any, path: str) -> list[str]:
    """A `type`, which may be a list, as a list."""
    kinds = given if isinstance(given, list) else [given]
    if not kinds or not all(isinstance(kind, str) and kind in KEYWORDS for kind in kinds):
        raise ValueError(f"{_at(path, 'type')} must be one of {', '.join(KEYWORDS)}")
    return list(dict.fromkeys(kinds))


def _types(value: Any) -> set[str]:
    """The types that a value is of."""
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return {"integer", "number"}
    return {"null"} if value is None else {"string"} if isinstance(value, str) else {"number"}


def _range(rest: Mapping[str, Any], path: str, least: str, most: str, low: int, high: int) -> dict[str, int]:
    """Two bounds, each a whole number between `low` and `high`, in order."""
    found: dict[str, int] = {}
    for name in (least, most):
        value = rest.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 or not low <= value <= high:
            raise ValueError(f"{_at(path, name)} must be a whole number from {low} to {high}")
        found[name] = int(value)
    if found.get(least, low) > found.get(most, high):
        raise ValueError(f"{_at(path, least)} is above {most}")
    return found


def _string(rest: Mapping[str, Any], path: str) -> dict[str, Any]:
    form = rest.get("format")
    if form is not None and (form not in FORMATS or len(rest) > 1):
        raise ValueError(f"{_at(path, 'format')} must be one of {', '.join(FORMATS)}, without a length")
    return {"format": form} if form is not None else _range(rest, path, "minLength", "maxLength", 0, LONGEST_STRING)


def _integer(rest: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The bounds of an integer, as values that are still allowed."""
    inclusive = _range(rest, path, "minimum", "maximum", -LARGEST, LARGEST)
    exclusive = _range(rest, path, "exclusiveMinimum", "exclusiveMaximum", -LARGEST, LARGEST)
    if "exclusiveMinimum" in exclusive:
        inclusive["minimum"] = max(inclusive.get("minimum", -LARGEST), exclusive["exclusiveMinimum"] + 1)
    if "exclusiveMaximum" in exclusive:
        inclusive["maximum"] = min(inclusive.get("maximum", LARGEST), exclusive["exclusiveMaximum"] - 1)
    return _range(inclusive, path, "minimum", "maximum", -LARGEST - 1, LARGEST + 1)
