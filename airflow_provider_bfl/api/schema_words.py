# SPDX-License-Identifier: Apache-2.0
"""A JSON Schema in words: what a value must be, and what legal value is nearest to a refused one.

A validator's own messages ("1000 is not a multiple of 32", once per keyword) make a reader look the rest up.
Here the whole rule of a field becomes one phrase, so that one sentence is enough to write the request right.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

# Past this no side of a picture can be legal, and a message with such a number cannot be read.
SANE_SIZE = 10**6
# No name or choice of BFL's comes near this length, and difflib is slow on long words.
LONGEST_WORD = 100


def describe(alternatives: Sequence[Schema]) -> str:
    """Say what a value must be, in one phrase, such as ``an integer from 5 to 20 or "auto"``."""
    phrases = [_phrase(schema) for schema in alternatives if not _choices(schema)]
    choices = [choice for schema in alternatives for choice in _choices(schema)]
    return " or ".join([*phrases, one_of(choices)] if choices else phrases)


def one_of(choices: Sequence[Any]) -> str:
    """Say which values are allowed: ``one of "jpeg", "png" or "webp"``, or the only one there is."""
    *most, last = map(quoted, choices)
    return f"one of {', '.join(most)} or {last}" if most else last


def quoted(value: Any) -> str:
    """Return a value as JSON, so that a string is told from a number."""
    return json.dumps(value, ensure_ascii=False)


def nearest(alternatives: Sequence[Schema], value: Any) -> str:
    """Say which legal value or values are nearest to a refused one; empty when none is near."""
    if isinstance(value, str):
        choices = [choice for schema in alternatives for choice in _choices(schema) if isinstance(choice, str)]
        # "16:10" looks like "1:1", but a reader would not call it near.
        near = closest(value.lower(), choices) if any(map(str.isalpha, value)) else None
        return quoted(near) if near else ""
    if is_number(value) and abs(value) <= SANE_SIZE:
        return next((_nearest_multiples(schema, value) for schema in alternatives if "multipleOf" in schema), "")
    return ""


def closest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that this one is most likely a slip for, or None."""
    if len(word) > LONGEST_WORD:
        return None
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.7)), None)


def is_number(value: Any) -> bool:
    """Whether this is a number that JSON can write: no bool, no infinity, no NaN."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _choices(schema: Schema) -> list[Any]:
    return [schema["const"]] if "const" in schema else list(schema.get("enum", ()))


def _phrase(schema: Schema) -> str:
    kind = schema.get("type")
    if kind in {"integer", "number"}:
        return _number(schema)
    if kind == "string":
        return _string(schema)
    if kind == "array":
        return f"a {_list(schema)}"
    return {"boolean": "true or false", "object": "an object"}.get(str(kind), "another value")


def _number(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "multipleOf" not in schema:
        return {"integer": "an integer", "number": "a number"}[schema["type"]] + _span(low, high)
    span = _span(low, high).replace(" of at", " and at")
    return f"a multiple of {schema['multipleOf']}{span}"


def _string(schema: Schema) -> str:
    noun = "an http or https URL" if schema.get("format") == "uri" else "a string"
    if "examples" in schema:
        return f"{noun} such as {quoted(schema['examples'][0])}"
    span = _span(schema.get("minLength"), schema.get("maxLength"))
    return f"{noun}{span.replace(' from', ' of')} characters" if span else noun


def _list(schema: Schema) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(item['type'] for item in schema['prefixItems'])}] pair"
    items = schema["items"]
    noun = _list(items) if items["type"] == "array" else items["type"]
    span = _span(schema.get("minItems"), schema.get("maxItems")).replace(" from", " of") or " of"
    return f"list{span} {noun}s"


def _span(low: Any, high: Any) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f" of at least {low}"
    return f" of at most {high}" if low is None else f" from {low} to {high}"


def _nearest_multiples(schema: Schema, value: float) -> str:
    step = schema["multipleOf"]
    low = math.ceil(schema.get("minimum", 0) / step) * step
    high = math.floor(schema.get("maximum", SANE_SIZE) / step) * step
    around = (math.floor(value / step) * step, math.ceil(value / step) * step)
    return " or ".join(map(str, dict.fromkeys(min(max(size, low), high) for size in around)))
