# SPDX-License-Identifier: Apache-2.0
"""Rebuild the model catalogue from BFL's published OpenAPI document.

BFL adds endpoints and fields more often than this provider is released, and the request schemas must be what
BFL says, not what we remember. So they are taken by machine, and everything BFL's document does not say
(limits, typical seconds, rules that only the docs state, endpoints missing from the document) is an overlay
that a rebuild never touches.

Maintainers run it on https://api.bfl.ai/openapi.json::

    python -m airflow_provider_bfl.api.catalogue_build openapi.json --retrieved 2026-09-19
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

PREFIX = "/v1/"
REF_PREFIX = "#/components/schemas/"
RESPONSES = ("AsyncResponse", "AsyncWebhookResponse")
CATALOGUE_PATH = Path(__file__).with_name("catalogue.json")

# Prose and presentation: the catalogue keeps only what decides whether a request is valid.
DROPPED_KEYWORDS = frozenset({"title", "description", "example", "examples", "deprecated"})
# FastAPI prints the bounds of an integer as floats (64.0), which would read badly in a message.
BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})

# What an endpoint gets that nobody has looked at yet; a maintainer then fills in the overlay.
NEW_OVERLAY: Json = {
    "aliases": {},
    "documented": {},
    "kind": "image",
    "max_active": 24,
    "max_pixels": None,
    "media": [],
    "price": None,
    "status": "new",
    "typical_seconds": 10,
}


def rebuild(openapi: Mapping[str, Any], current: Mapping[str, Any]) -> Json:
    """Return the catalogue with every request schema replaced by the one in BFL's OpenAPI document.

    The overlay of a model is kept as it is. An endpoint the catalogue does not know gets ``NEW_OVERLAY``; one
    the document no longer has keeps its last schema, with ``in_openapi`` false.

    :param openapi: BFL's OpenAPI document, parsed.
    :param current: the catalogue as it is now; not modified.
    :raises KeyError: when a ``$ref`` of the document points nowhere.
    """
    found = dict(request_schemas(openapi))
    models: Json = {}
    for slug in sorted({*current["models"], *found}):
        entry = dict(current["models"].get(slug, NEW_OVERLAY))
        if slug in found:
            entry["schema"] = found[slug]
        entry["in_openapi"] = slug in found
        models[slug] = entry
    info = openapi.get("info", {})
    facts = {"openapi": openapi.get("openapi"), "title": info.get("title"), "version": info.get("version")}
    return {"models": models, "source": {**current["source"], **facts}}


def request_schemas(openapi: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
    """Yield (slug, request schema) of every endpoint that answers with an AsyncResponse."""
    components = openapi.get("components", {}).get("schemas", {})
    for path, operations in openapi.get("paths", {}).items():
        operation = operations.get("post")
        if operation is None or not path.startswith(PREFIX) or not _starts_generation(operation):
            continue
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        yield path.removeprefix(PREFIX), _facts(schema, components)


def _starts_generation(operation: Mapping[str, Any]) -> bool:
    content = operation.get("responses", {}).get("200", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    answers = {answer.get("$ref") for answer in [schema, *schema.get("anyOf", ())]}
    return any(REF_PREFIX + name in answers for name in RESPONSES)


def _facts(schema: Any, components: Mapping[str, Any]) -> Any:
    """Return the schema with ``$ref`` resolved and prose removed."""
    if isinstance(schema, list):
        return [_facts(item, components) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    if "$ref" in schema:
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**components[schema["$ref"].removeprefix(REF_PREFIX)], **siblings}
    return {key: _keyword(key, value, components) for key, value in schema.items() if _is_fact(key)}


def _is_fact(keyword: str) -> bool:
    return keyword not in DROPPED_KEYWORDS and not keyword.startswith("x-")


def _keyword(key: str, value: Any, components: Mapping[str, Any]) -> Any:
    if key == "properties":  # its keys are field names, so none of them is prose
        return {name: _facts(field, components) for name, field in value.items()}
    if key == "discriminator":  # its mapping names components, which no longer exist here
        return {"propertyName": value["propertyName"]}
    if key in BOUNDS and isinstance(value, float) and value.is_integer():
        return int(value)
    return value if key == "default" else _facts(value, components)


def openapi_document(catalogue: Mapping[str, Any]) -> Json:
    """Return an OpenAPI document of the catalogue, in the shape FastAPI gives BFL's own.

    Only endpoints that BFL's own document has are in it, so that a rebuild from it gives the same catalogue.
    """
    components: Json = dict(_PROTOCOL_SCHEMAS)
    paths: Json = {}
    names: dict[str, str] = {}
    for slug, entry in sorted(catalogue["models"].items()):
        if entry["in_openapi"]:
            name = names.setdefault(dumps(entry["schema"]), _pascal(slug) + "Inputs")
            _add_component(components, name, entry["schema"])
            paths[PREFIX + slug] = {"post": _post_operation(slug, name)}
    source = catalogue["source"]
    return {
        "openapi": source["openapi"],
        "info": {"title": source["title"], "version": source["version"]},
        "paths": {**paths, **_UTILITY_PATHS},
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"APIKeyHeader": {"type": "apiKey", "in": "header", "name": "x-key"}},
        },
    }


def _add_component(components: Json, name: str, schema: Mapping[str, Any]) -> None:
    if "oneOf" not in schema:
        components[name] = {**_with_output_format_ref(schema), "title": name}
        return
    key = schema["discriminator"]["propertyName"]
    mapping: dict[str, str] = {}
    for variant in schema["oneOf"]:
        tag = variant["properties"][key]["const"]
        part = f"{name}{_pascal(tag)}"
        _add_component(components, part, variant)
        mapping[tag] = REF_PREFIX + part
    components[name] = {
        **schema,
        "oneOf": [{"$ref": ref} for ref in mapping.values()],
        "discriminator": {"propertyName": key, "mapping": mapping},
        "title": name,
    }


def _with_output_format_ref(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_with_output_format_ref(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    if schema == _OUTPUT_FORMAT:
        return {"$ref": REF_PREFIX + "OutputFormat"}
    return {key: _with_output_format_ref(value) for key, value in schema.items()}


def _pascal(slug: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[/_-]", slug.replace(".", "")))


def _post_operation(slug: str, name: str) -> Json:
    answers = {"anyOf": [{"$ref": REF_PREFIX + response} for response in RESPONSES]}
    return {
        "tags": ["Models"],
        "summary": f"Submit a generation to {slug}",
        "security": [{"APIKeyHeader": []}],
        "requestBody": {"required": True, **_json_content({"$ref": REF_PREFIX + name})},
        "responses": _responses(answers),
    }


def _responses(schema: Json) -> Json:
    refusal = _json_content({"$ref": REF_PREFIX + "HTTPValidationError"})
    return {
        "200": {"description": "Successful Response", **_json_content(schema)},
        "422": {"description": "Validation Error", **refusal},
    }


def _json_content(schema: Json) -> Json:
    return {"content": {"application/json": {"schema": schema}}}


def _nullable(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(required: Sequence[str], **properties: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}


_OUTPUT_FORMAT: Json = {"type": "string", "enum": ["jpeg", "png", "webp"]}
_STRING: Json = {"type": "string"}
_AMOUNT: Json = _nullable({"type": "number"})
_AMOUNTS: Json = {"cost": _AMOUNT, "input_mp": _AMOUNT, "output_mp": _AMOUNT}
_STATUSES = (
    "Task not found",
    "Pending",
    "Reasoning",
    "Generating",
    "Request Moderated",
    "Content Moderated",
    "Ready",
    "Error",
)
_RESULT: Json = {
    "id": _STRING,
    "status": {"$ref": REF_PREFIX + "StatusResponse"},
    "result": _nullable({}),
    "progress": _AMOUNT,
    "details": _nullable({"type": "object"}),
    "preview": _nullable({"type": "object"}),
}
_PROTOCOL_SCHEMAS: Json = {
    "AsyncResponse": _object(("id", "polling_url"), id=_STRING, polling_url=_STRING, **_AMOUNTS),
    "AsyncWebhookResponse": _object(
        ("id", "status", "webhook_url"), id=_STRING, status=_STRING, webhook_url=_STRING, **_AMOUNTS
    ),
    "CreditsResponse": _object(("credits",), credits={"type": "number"}),
    "HTTPValidationError": _object((), detail={"type": "array", "items": {"$ref": REF_PREFIX + "ValidationError"}}),
    "OutputFormat": {**_OUTPUT_FORMAT, "title": "OutputFormat"},
    "ResultResponse": _object(("id", "status"), **_RESULT),
    "SettledCostResultResponse": _object(("id", "status", "cost"), **_RESULT, cost={"type": "number"}),
    "StatusResponse": {"type": "string", "enum": list(_STATUSES)},
    "ValidationError": _object(
        ("loc", "msg", "type"),
        loc={"type": "array", "items": {"anyOf": [_STRING, {"type": "integer"}]}},
        msg=_STRING,
        type=_STRING,
    ),
}
_RESULT_ANSWERS = [
    {"$ref": REF_PREFIX + "SettledCostResultResponse"},
    {"$ref": REF_PREFIX + "ResultResponse"},
]
_UTILITY_PATHS: Json = {
    "/v1/credits": {
        "get": {
            "security": [{"APIKeyHeader": []}],
            "responses": _responses({"$ref": REF_PREFIX + "CreditsResponse"}),
        }
    },
    "/v1/get_result": {
        "get": {
            "parameters": [{"name": "id", "in": "query", "required": True, "schema": _STRING}],
            "responses": _responses({"anyOf": _RESULT_ANSWERS}),
        }
    },
}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say what a rebuild changed, one line per fact, for the maintainer to read before committing."""
    lines: list[str] = []
    for slug, entry in after["models"].items():
        old = before["models"].get(slug)
        if old is None:
            lines.append(f"{slug}: new endpoint; its overlay holds defaults, fill it in")
            continue
        if old["in_openapi"] and not entry["in_openapi"]:
            lines.append(f"{slug}: gone from the document; its last schema is kept")
        elif entry["in_openapi"] and not old["in_openapi"]:
            lines.append(f"{slug}: now in the document; its schema replaces ours")
        lines.extend(f"{slug}: {change}" for change in _differences("", old["schema"], entry["schema"]))
    return lines


def _differences(where: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            place = f"{where}.{key}" if where else key
            if key not in old:
                yield f"{place} added: {json.dumps(new[key], sort_keys=True)}"
            elif key not in new:
                yield f"{place} removed"
            else:
                yield from _differences(place, old[key], new[key])
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{where}[{index}]", left, right)
    elif old != new:
        yield f"{where}: {json.dumps(old, sort_keys=True)} -> {json.dumps(new, sort_keys=True)}"


def dumps(catalogue: Mapping[str, Any]) -> str:
    """Write a catalogue so that two equal ones are the same bytes and a diff shows one fact a line."""
    return json.dumps(catalogue, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Rebuild the catalogue file in place and print what changed; exit code 0."""
    parser = argparse.ArgumentParser(description=rebuild.__doc__.splitlines()[0] if rebuild.__doc__ else None)
    parser.add_argument("openapi", type=Path, help="BFL's OpenAPI document, as JSON")
    parser.add_argument("--catalogue", type=Path, default=CATALOGUE_PATH, help="default: the packaged one")
    parser.add_argument("--retrieved", metavar="DATE", help="the day the document was fetched, YYYY-MM-DD")
    arguments = parser.parse_args(argv)
    before = json.loads(arguments.catalogue.read_text(encoding="utf-8"))
    after = rebuild(json.loads(arguments.openapi.read_text(encoding="utf-8")), before)
    if arguments.retrieved:
        after["source"]["retrieved"] = arguments.retrieved
    arguments.catalogue.write_text(dumps(after), encoding="utf-8")
    for line in changes(before, after) or ["no request schema changed"]:
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
