# SPDX-License-Identifier: Apache-2.0
"""What each BFL endpoint accepts, and what is wrong with a request before it is paid for.

BFL ignores a field it does not know. A typo, or a field of another model such as ``aspect_ratio`` on FLUX.2,
is therefore not an error there but a paid picture of the wrong kind. So requests are judged here, against
BFL's own request schemas plus the rules that only BFL's docs state, and every problem is told in a sentence
that names the right field or value.

The facts live in ``catalogue.json``, which ``catalogue_build`` makes from BFL's OpenAPI document. Its price
figures serve the simulator alone: the provider decides nothing about money from them, only from the cost BFL
itself reports.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_bfl.api.schema_words import (
    Schema,
    closest,
    describe,
    is_number,
    nearest,
    one_of,
    quoted,
)

if TYPE_CHECKING:
    from jsonschema import FormatChecker

# BFL's documented limit of active tasks for "most endpoints".
DEFAULT_MAX_ACTIVE = 24
# A guess between the quick models (2-4 s) and the slow ones (40 s), for an endpoint nobody has measured.
DEFAULT_TYPICAL_SECONDS = 10.0

_EMPTY: Schema = {}


@dataclass(frozen=True)
class Model:
    """One BFL endpoint: what it accepts and how it behaves.

    :param slug: the path below ``/v1/``, such as ``flux-2-pro`` or ``flux-tools/erase-v1``.
    :param known: false for a slug the catalogue does not have; everything else is then a default.
    :param kind: ``image`` or ``video``.
    :param status: ``active``, ``preview``, ``beta``, ``legacy``, ``deprecated``, ``new`` (a rebuild added it
        and nobody has looked at it yet) or ``unknown``.
    :param in_openapi: whether BFL's OpenAPI document has it; else the schema comes from docs and clients.
    :param max_active: how many tasks of it may be active at once.
    :param typical_seconds: from submit to result at about 1 MP, as measured; a hint for polling, no promise.
    :param media_fields: fields that hold an image or a video (URL or base64), or a list of them.
    :param default_output_format: what BFL delivers when ``output_format`` is left out; None when there is
        no such field.
    :param schema: JSON Schema (draft 2020-12) of the request body, as BFL publishes it.
    :param documented: a further JSON Schema with rules only the docs state.
    :param strict: BFL refuses unknown fields (422) instead of ignoring them.
    :param max_pixels: largest ``width`` x ``height`` the docs allow; None when they say nothing.
    :param aliases: per field, other spellings BFL accepts for a value.
    :param price: figures for the simulator's costs; never a basis for decisions. None when not found.
    """

    slug: str
    known: bool = False
    kind: str = "image"
    status: str = "unknown"
    in_openapi: bool = False
    max_active: int = DEFAULT_MAX_ACTIVE
    typical_seconds: float = DEFAULT_TYPICAL_SECONDS
    media_fields: tuple[str, ...] = ()
    default_output_format: str | None = None
    strict: bool = False
    max_pixels: int | None = None
    schema: Schema = field(default_factory=dict, compare=False, repr=False)
    documented: Schema = field(default_factory=dict, compare=False, repr=False)
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict, compare=False, repr=False)
    price: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def variants(self) -> tuple[Schema, ...]:
        """The request schemas of this endpoint: one, or one per value of the discriminator (``mode``)."""
        return tuple(self.schema.get("oneOf", (self.schema,)))

    @property
    def discriminator(self) -> str | None:
        """The field that chooses among several variants, or None when there is only one."""
        name = self.schema.get("discriminator", _EMPTY).get("propertyName")
        return None if name is None else str(name)

    @property
    def field_names(self) -> tuple[str, ...]:
        """Every field of every variant, each once."""
        names = (name for variant in self.variants for name in variant.get("properties", ()))
        return tuple(dict.fromkeys(names))

    @property
    def takes_webhooks(self) -> bool:
        """Whether ``webhook_url`` is a field of this endpoint."""
        return "webhook_url" in self.field_names

    def variant_for(self, request: Mapping[str, Any]) -> Schema | None:
        """Return the schema this request is judged by; None when its discriminator is missing or wrong."""
        key = self.discriminator
        if key is None:
            return self.schema
        tag = self.canonical(key, request.get(key))
        return next((item for item in self.variants if item["properties"][key]["const"] == tag), None)

    def canonical(self, name: str, value: Any) -> Any:
        """Return BFL's main spelling of a value that has several, any other value as it is."""
        return self.aliases.get(name, {}).get(value, value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a request.

    :param field: the request field to change.
    :param message: a whole sentence; it never holds a secret, a prompt or the contents of a media field.
    """

    field: str
    message: str


@functools.cache
def load_catalogue() -> Mapping[str, Any]:
    """Return the parsed ``catalogue.json``; shared by all callers, so not to be modified."""
    text = resources.files(__package__).joinpath("catalogue.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def model_names() -> tuple[str, ...]:
    """Return the slugs of all known endpoints, sorted."""
    return tuple(_models())


def get_model(slug: str) -> Model:
    """Return the endpoint of this slug; an unknown one gives ``Model(slug)`` and never raises."""
    return _models().get(slug) or Model(slug)


def closest_model(slug: str) -> str | None:
    """Return the known slug most like this one (``/v1/`` and letter case do not count), or None."""
    wanted = slug.strip().lower().replace("_", "-").strip("/").removeprefix("v1/")
    return closest(wanted, model_names())


@functools.cache
def _models() -> dict[str, Model]:
    return {slug: _model(slug, entry) for slug, entry in load_catalogue()["models"].items()}


def _model(slug: str, entry: Mapping[str, Any]) -> Model:
    schema = entry["schema"]
    variants = schema.get("oneOf", [schema])
    return Model(
        slug=slug,
        known=True,
        kind=entry["kind"],
        status=entry["status"],
        in_openapi=entry["in_openapi"],
        max_active=entry["max_active"],
        typical_seconds=float(entry["typical_seconds"]),
        media_fields=tuple(entry["media"]),
        default_output_format=variants[0]["properties"].get("output_format", _EMPTY).get("default"),
        strict=all(variant.get("additionalProperties") is False for variant in variants),
        max_pixels=entry["max_pixels"],
        schema=schema,
        documented=entry["documented"],
        aliases=entry["aliases"],
        price=entry["price"],
    )


def find_problems(slug: str, request: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Return everything that is wrong with a request; ``()`` when it is valid or the model is unknown.

    One problem per mistake. An unknown field is always one, because BFL would ignore it and bill the result.
    Media fields are judged by type alone. Lists and tuples are the same thing here, and 2.0 is an integer, as
    JSON Schema has it; True is not.

    :param slug: the endpoint, see :func:`get_model`.
    :param request: the request body, with BFL's field names.
    """
    model = get_model(slug)
    if not model.known:
        return ()
    variant = model.variant_for(request)
    unknown = tuple(_unknown_fields(model, request, variant))
    # "promt" already leads to prompt: one mistake, one message.
    meant = {name for item in unknown for name in item.instead}
    if variant is None:
        wrong = tuple(_tag_problem(model, request, meant))
    else:
        missing = [name for name in variant.get("required", ()) if name not in request and name not in meant]
        wrong = (
            *_wrong_values(model, request, variant),
            *(Problem(name, f"{name} is required by {_place(model, variant)} and is missing.") for name in missing),
        )
    area = () if any(problem.field in {"width", "height"} for problem in wrong) else _area_problem(model, request)
    return (*(item.problem for item in unknown), *wrong, *area)


def _place(model: Model, variant: Schema | None) -> str:
    """Name the model, and its mode where it has several."""
    key = model.discriminator
    if key is None or variant is None:
        return model.slug
    return f"{model.slug} with {key} {variant['properties'][key]['const']}"


def _tag_problem(model: Model, request: Mapping[str, Any], meant: set[str]) -> Iterator[Problem]:
    key = model.discriminator or ""
    tags = [variant["properties"][key]["const"] for variant in model.variants]
    if key in request:
        choices = {"enum": [*tags, *model.aliases.get(key, ())]}
        yield Problem(key, _wrong_value(model, key, [choices], request[key]))
    elif key not in meant:
        yield Problem(key, f"{key} is required by {model.slug} and is missing: use {one_of(tags)}.")


def _wrong_values(model: Model, request: Mapping[str, Any], variant: Schema) -> Iterator[Problem]:
    documented = model.documented.get("properties", _EMPTY)
    for name, value in request.items():
        spec = variant["properties"].get(name)
        if spec is None:
            continue
        plain = model.canonical(name, _lists(value))
        rules = documented.get(name, _EMPTY)
        if not _fits(plain, {"allOf": [spec, rules]}):
            message = _wrong_value(model, name, _alternatives(spec, rules), plain)
            yield Problem(name, message + _sentinel_hint(spec, plain))


def _fits(value: Any, schema: Schema) -> bool:
    from jsonschema import Draft202012Validator

    if isinstance(value, float) and not is_number(value):
        return False  # JSON has no infinity or NaN: BFL could not read the body
    return Draft202012Validator(schema, format_checker=_format_checker()).is_valid(value)


@functools.cache
def _format_checker() -> FormatChecker:
    from jsonschema import FormatChecker

    checker = FormatChecker(formats=())
    checker.checks("uri")(_is_http_url)
    return checker


def _is_http_url(value: object) -> bool:
    if not isinstance(value, str):
        return True  # its type is another keyword's business
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _lists(value: Any) -> Any:
    """Turn tuples into lists, as writing JSON will."""
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


# Which JSON type a documented rule is about: keyframes may be a string or a list, but only a list has items
# to count.
_CONCERNS = {
    "examples": {"string"},
    "maxItems": {"array"},
    "minItems": {"array"},
    "multipleOf": {"integer", "number"},
    "pattern": {"string"},
}


def _alternatives(spec: Schema, rules: Schema) -> list[Schema]:
    """Return what a field may be besides null, each with the documented rules about its type."""
    return [
        {
            **branch,
            **{key: rule for key, rule in rules.items() if branch.get("type") in _CONCERNS.get(key, ())},
        }
        for branch in spec.get("anyOf", (spec,))
        if branch.get("type") != "null"
    ]


def _wrong_value(model: Model, name: str, alternatives: Sequence[Schema], value: Any) -> str:
    if value is None:
        return f"{name} must not be null for {model.slug}: leave the field out to get BFL's default."
    near = nearest(alternatives, value)
    ending = f"; nearest: {near}." if near else "."
    return f"{name} must be {describe(alternatives)} for {model.slug}, not {_shown(model, name, value)}{ending}"


def _sentinel_hint(spec: Schema, value: Any) -> str:
    if is_number(value) and value == 0 == spec.get("default"):
        return " Leave it out to let BFL choose: 0 only marks that in BFL's schema, and is refused when sent."
    return ""


# Fields that say something about a person or open something: a refused value is told by its type and length
# alone.
_PRIVATE = frozenset({"prompt", "user", "webhook_url", "webhook_secret", "finetune_id"})
_LONGEST_SHOWN = 40


def _shown(model: Model, name: str, value: Any) -> str:
    """Return how a refused value appears in a message."""
    if isinstance(value, list):
        return f"the given list of {len(value)}"
    hidden = name in _PRIVATE or name in model.media_fields
    if isinstance(value, str):
        return f"a string of {len(value)} characters" if hidden or len(value) > _LONGEST_SHOWN else quoted(value)
    if isinstance(value, bool | int | float) and not hidden:
        # Python refuses to print an int of thousands of digits.
        large = isinstance(value, int) and value.bit_length() > 128
        return "a number too large to show" if large else quoted(value)
    return f"a value of type {type(value).__name__}"


# BFL's documented minimum: a side left out is at least this long, so one side alone can already be too long.
_SHORTEST_SIDE = 64


def _area_problem(model: Model, request: Mapping[str, Any]) -> Iterator[Problem]:
    sides = [request.get(name) for name in ("width", "height")]
    if model.max_pixels is None or not any(map(is_number, sides)):
        return
    width, height = (_SHORTEST_SIDE if side is None else int(side) for side in sides)
    if width * height > model.max_pixels:
        shown = " x ".join(_shown(model, "width", side) for side in (width, height))
        limit = f"at most {model.max_pixels} pixels for {model.slug}"
        yield Problem("width", f"width x height must be {limit}, not {shown}.")


@dataclass(frozen=True)
class _UnknownField:
    problem: Problem
    instead: tuple[str, ...]  # the fields the message tells to use


def _unknown_fields(model: Model, request: Mapping[str, Any], variant: Schema | None) -> Iterator[_UnknownField]:
    names = model.field_names if variant is None else tuple(variant["properties"])
    fate = "BFL refuses the request" if model.strict else "BFL would ignore it and bill a result made without it"
    for name in map(str, request):
        if name not in names:
            shown = name if len(name) <= _LONGEST_SHOWN else f"a name of {len(name)} characters"
            advice, instead = _advice(model, name, names)
            message = f"{shown} is not a field of {_place(model, variant)}; {fate}. {advice}"
            yield _UnknownField(Problem(name, message), tuple(instead))


# Fields that ask for the same thing, on different BFL models or in other vendors' APIs.
_SIZES = ("width", "height", "aspect_ratio", "resolution", "size", "image_size")
_SAME_JOB: tuple[tuple[str, ...], ...] = (
    ("input_image", "images", "image", "keyframes", "image_prompt", "person", "image_url", "reference_image"),
    ("video", "input_video", "start_video", "video_url"),
    ("output_format", "format", "image_format"),
    ("guidance", "guidance_scale", "cfg_scale"),
    ("steps", "num_inference_steps"),
)
_OPPOSITES = {"prompt_upsampling": "disable_pup", "disable_pup": "prompt_upsampling"}
_COUNTS = frozenset({"n", "num_images", "num_outputs", "number_of_images", "batch_size"})


def _advice(model: Model, name: str, names: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return a sentence that says what to do about an unknown field, and the fields it says to use."""
    if name in _COUNTS:
        return "Leave it out: a BFL task makes one result, so submit one task per result.", ()
    if (opposite := _OPPOSITES.get(name)) in names:
        return f"Leave it out or use {opposite}, which means the opposite.", ()
    if instead := _same_job(name, names):
        return f"Leave it out and use {' and '.join(instead)}.", instead
    references = [known for known in names if re.fullmatch(r"input_image(_\d+)?", known)]
    if references and re.fullmatch(r"input_image_\d+", name):
        return f"There are at most {len(references)} input images, input_image to {max(references)}.", ()
    if near := closest(name.lower(), names):
        return f"Did you mean {near}?", (near,)
    if owners := _owners(model, name):
        return f"Leave it out: it belongs to {owners}.", ()
    return f"Leave it out; the fields are {', '.join(names)}.", ()


def _same_job(name: str, names: Sequence[str]) -> Sequence[str]:
    if name in _SIZES:
        return [known for known in _SIZES if known in names]
    group = next((group for group in _SAME_JOB if name in group), ())
    return [known for known in group if known in names][:1]


def _owners(model: Model, name: str) -> str:
    """Say where a field belongs: to other modes of this model, or to other models (three at most)."""
    key = model.discriminator
    if key is not None and name in model.field_names:
        modes = [item["properties"][key]["const"] for item in model.variants if name in item["properties"]]
        return f"{key} {', '.join(modes)}"
    return ", ".join([slug for slug, other in _models().items() if name in other.field_names][:3])
