# SPDX-License-Identifier: Apache-2.0
"""The 422 a FastAPI server answers to a bad request body, judged by BFL's published schema alone.

BFL's server is FastAPI with pydantic 2, and so is lenient where JSON Schema is not: ``"1024"`` is an integer
to it, and an unknown field is no error unless the schema forbids it. Rules that only BFL's docs state are not
enforced here, as the real server's schema does not have them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_bfl.api.catalogue import Model

Schema = Mapping[str, Any]
Location = tuple[str | int, ...]
Error = dict[str, Any]

_NOT_AN_OBJECT = "Input should be a valid dictionary or object to extract fields from"
_INTEGER = re.compile(r"\s*[+-]?\d+(\.0+)?\s*")
_BOOLEAN_WORDS = frozenset({"0", "1", "f", "false", "n", "no", "off", "on", "t", "true", "y", "yes"})
_OUTPUT_FORMATS = ["jpeg", "png", "webp"]


def spec_errors(model: Model, body: Any) -> list[Error]:
    """Return the ``detail`` of BFL's 422 for this body: a dict with type, loc, msg, input, perhaps ctx per error.

    :param model: the endpoint; an unknown one accepts everything.
    :param body: the parsed JSON body; None when there was none.
    """
    if not model.known:
        return []
    if body is None:
        return [_error("missing", ("body",), "Field required", None)]
    if not isinstance(body, Mapping):
        return [_error("model_attributes_type", ("body",), _NOT_AN_OBJECT, body)]
    variant = model.variant_for(body)
    if variant is None:
        return [_tag_error(model, body)]
    key = model.discriminator
    # pydantic names the chosen member of a tagged union in the location
    where: Location = ("body",) if key is None else ("body", variant["properties"][key]["const"])
    return list(_object_errors(model, variant, body, where))


def _error(kind: str, where: Location, message: str, value: Any, **context: Any) -> Error:
    error = {"type": kind, "loc": list(where), "msg": message, "input": value}
    return {**error, "ctx": context} if context else error


def _tag_error(model: Model, body: Mapping[str, Any]) -> Error:
    key = model.discriminator or ""
    if key not in body:
        message = f"Unable to extract tag using discriminator '{key}'"
        return _error("union_tag_not_found", ("body",), message, body, discriminator=f"'{key}'")
    tags = ", ".join(f"'{variant['properties'][key]['const']}'" for variant in model.variants)
    found = f"Input tag '{body[key]}' found using '{key}'"
    message = f"{found} does not match any of the expected tags: {tags}"
    context = {"discriminator": f"'{key}'", "tag": str(body[key]), "expected_tags": tags}
    return _error("union_tag_invalid", ("body",), message, body, **context)


def _object_errors(model: Model, schema: Schema, body: Mapping[str, Any], where: Location) -> Iterator[Error]:
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        if name in body:
            yield from _value_errors(field, model.canonical(name, body[name]), (*where, name))
        elif name in required:
            yield _error("missing", (*where, name), "Field required", body)
    if schema.get("additionalProperties") is False:
        for name in body:
            if name not in schema["properties"]:
                message = "Extra inputs are not permitted"
                yield _error("extra_forbidden", (*where, name), message, body[name])


def _value_errors(schema: Schema, value: Any, where: Location) -> Iterator[Error]:
    branches = schema.get("anyOf", (schema,))
    members = [branch for branch in branches if branch.get("type") != "null"]
    if value is None and len(members) < len(branches):
        return
    if len(members) == 1:
        yield from _member_errors(members[0], value, where)
        return
    refusals = [list(_member_errors(member, value, (*where, _label(member)))) for member in members]
    if all(refusals):
        yield from (error for refusal in refusals for error in refusal)


def _label(schema: Schema) -> str:
    """Name a member of a union as pydantic does in ``loc``."""
    if _choices(schema):
        return f"literal[{','.join(map(repr, _choices(schema)))}]"
    if "prefixItems" in schema:
        return f"tuple[{', '.join(map(_label, schema['prefixItems']))}]"
    if schema["type"] == "array":
        return f"list[{_label(schema['items'])}]"
    if schema.keys() & {"minimum", "maximum", "multipleOf"}:
        return "constrained-int" if schema["type"] == "integer" else "constrained-float"
    return {"boolean": "bool", "integer": "int", "number": "float", "string": "str"}[schema["type"]]


def _member_errors(schema: Schema, value: Any, where: Location) -> Iterator[Error]:
    if _choices(schema):
        yield from _choice_errors(schema, value, where)
    elif "prefixItems" in schema:
        yield from _pair_errors(schema, value, where)
    elif schema["type"] == "array":
        yield from _list_errors(schema, value, where)
    elif schema["type"] == "boolean":
        yield from _boolean_errors(value, where)
    elif schema["type"] == "string":
        check = _url_errors if schema.get("format") == "uri" else _string_errors
        yield from check(schema, value, where)
    else:
        yield from _number_errors(schema, value, where)


def _choices(schema: Schema) -> Sequence[Any]:
    return [schema["const"]] if "const" in schema else schema.get("enum", ())


def _choice_errors(schema: Schema, value: Any, where: Location) -> Iterator[Error]:
    if value in _choices(schema):
        return
    *most, last = map(repr, _choices(schema))
    expected = f"{', '.join(most)} or {last}" if most else last
    # BFL's output formats are an Enum, every other choice is a Literal
    kind = "enum" if _choices(schema) == _OUTPUT_FORMATS else "literal_error"
    yield _error(kind, where, f"Input should be {expected}", value, expected=expected)


def _string_errors(schema: Schema, value: Any, where: Location) -> Iterator[Error]:
    if not isinstance(value, str):
        yield _error("string_type", where, "Input should be a valid string", value)
        return
    low, high = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    if len(value) < low:
        message = f"String should have at least {_counted(low, 'character')}"
        yield _error("string_too_short", where, message, value, min_length=low)
    elif len(value) > high:
        message = f"String should have at most {_counted(high, 'character')}"
        yield _error("string_too_long", where, message, value, max_length=high)


def _url_errors(schema: Schema, value: Any, where: Location) -> Iterator[Error]:
    if not isinstance(value, str):
        yield _error("url_type", where, "URL input should be a string or URL", value)
        return
    high = schema.get("maxLength", math.inf)
    if len(value) > high:
        message = f"URL should have at most {_counted(high, 'character')}"
        yield _error("url_too_long", where, message, value, max_length=high)
    elif fault := _url_fault(value):
        yield _error("url_parsing", where, f"Input should be a valid URL, {fault}", value, error=fault)
    elif urlsplit(value).scheme not in {"http", "https"}:
        expected = "'http' or 'https'"
        yield _error("url_scheme", where, f"URL scheme should be {expected}", value, expected_schemes=expected)


def _url_fault(value: str) -> str | None:
    if not value:
        return "input is empty"
    try:
        parts = urlsplit(value)
    except ValueError:
        return "invalid international domain name"
    if not parts.scheme:
        return "relative URL without a base"
    return None if parts.hostname else "empty host"


def _boolean_errors(value: Any, where: Location) -> Iterator[Error]:
    message = "Input should be a valid boolean"
    if isinstance(value, str):
        understood = value.lower() in _BOOLEAN_WORDS
    elif isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        understood = value in {0, 1}
    else:
        yield _error("bool_type", where, message, value)
        return
    if not understood:
        yield _error("bool_parsing", where, f"{message}, unable to interpret input", value)


def _number_errors(schema: Schema, value: Any, where: Location) -> Iterator[Error]:
    number = _integer(value, where) if schema["type"] == "integer" else _float(value, where)
    if isinstance(number, dict):
        yield number
        return
    step, low, high = (schema.get(key) for key in ("multipleOf", "minimum", "maximum"))
    # pydantic checks in this order and stops at the first
    if step is not None and number % step != 0:
        yield _error("multiple_of", where, f"Input should be a multiple of {step}", value, multiple_of=step)
    elif high is not None and not number <= high:
        yield _error("less_than_equal", where, f"Input should be less than or equal to {high}", value, le=high)
    elif low is not None and not number >= low:
        yield _error("greater_than_equal", where, f"Input should be greater than or equal to {low}", value, ge=low)


def _integer(value: Any, where: Location) -> int | Error:
    message = "Input should be a valid integer"
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        if _INTEGER.fullmatch(value) and len(value) <= 4300:  # pydantic's and Python's limit of digits
            return int(value.strip().partition(".")[0])
        return _error("int_parsing", where, f"{message}, unable to parse string as an integer", value)
    if not isinstance(value, float):
        return _error("int_type", where, message, value)
    if not math.isfinite(value):
        return _error("finite_number", where, "Input should be a finite number", value)
    if not value.is_integer():
        return _error("int_from_float", where, f"{message}, got a number with a fractional part", value)
    return int(value)


def _float(value: Any, where: Location) -> float | Error:
    message = "Input should be a valid number"
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str):
        return _error("float_type", where, message, value)
    try:
        return float(value)
    except ValueError:
        return _error("float_parsing", where, f"{message}, unable to parse string as a number", value)


def _pair_errors(schema: Schema, value: Any, where: Location) -> Iterator[Error]:
    parts = schema["prefixItems"]
    if not isinstance(value, list):
        yield _error("tuple_type", where, "Input should be a valid tuple", value)
    elif len(value) > len(parts):
        yield _too_long("Tuple", len(parts), value, where)
    else:
        for index, part in enumerate(parts):
            if index < len(value):
                yield from _value_errors(part, value[index], (*where, index))
            else:
                yield _error("missing", (*where, index), "Field required", value)


def _list_errors(schema: Schema, value: Any, where: Location) -> Iterator[Error]:
    low, high = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    if not isinstance(value, list):
        yield _error("list_type", where, "Input should be a valid list", value)
    elif len(value) > high:
        yield _too_long("List", int(high), value, where)
    else:
        for index, item in enumerate(value):
            yield from _value_errors(schema["items"], item, (*where, index))
        if len(value) < low:
            message = f"List should have at least {_counted(low, 'item')} after validation, not {len(value)}"
            context = {"field_type": "List", "min_length": low, "actual_length": len(value)}
            yield _error("too_short", where, message, value, **context)


def _too_long(kind: str, high: int, value: list[Any], where: Location) -> Error:
    message = f"{kind} should have at most {_counted(high, 'item')} after validation, not {len(value)}"
    context = {"field_type": kind, "max_length": high, "actual_length": len(value)}
    return _error("too_long", where, message, value, **context)


def _counted(number: float, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
