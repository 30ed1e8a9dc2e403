# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated, Any, Literal, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, HttpUrl, TypeAdapter, ValidationError

from airflow_provider_bfl.api.catalogue import find_problems, get_model, model_names
from airflow_provider_bfl.simulator.validation import spec_errors

CONSTRAINTS = {
    "minimum": "ge",
    "maximum": "le",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
}
SAMPLES: list[Any] = [
    *(None, True, False, 0, 1, 2, 3, 5, 7, 16, 20, 64, 65, 96, 1000, 1024, 5000, -1, 0.5, 2.0, 2.5, 99.5),
    *("", "x", "64", " 96 ", "2.0", "2.5", "-1", "yes", "OFF", "auto", "hd", "png", "16:9"),
    *("y" * 300, "z" * 5000, "https://example.com/" + "z" * 3000),
    *("https://example.com/hook", "ftp://example.com/hook", "example.com", "http://"),
    *([], {}, ["u"], ["u"] * 11, [1, "u"], [1, 2], [[0, "u"]], [[0, "u", 1]], [["u"]], [None]),
    *(float("inf"), float("nan")),
]
FIELDS = [
    pytest.param(slug, variant, name, id=f"{slug}-{number}-{name}")
    for slug in model_names()
    for number, variant in enumerate(get_model(slug).variants)
    for name in variant["properties"]
    if name != get_model(slug).discriminator
]


def pydantic_type(schema: Any) -> Any:
    """Return the type that FastAPI would have written this schema from."""
    if "anyOf" in schema:
        return Union[tuple(pydantic_type(branch) for branch in schema["anyOf"])]  # noqa: UP007
    if "enum" in schema or "const" in schema:
        return Literal[tuple(schema.get("enum") or [schema["const"]])]
    if "prefixItems" in schema:
        return tuple[tuple(pydantic_type(item) for item in schema["prefixItems"])]  # type: ignore[misc]
    if schema.get("format") == "uri":
        return HttpUrl
    plain = {"string": str, "integer": int, "number": float, "boolean": bool, "null": None, "array": list}
    item = pydantic_type(schema["items"]) if "items" in schema else None
    base: Any = list[item] if item else plain[schema["type"]]  # type: ignore[valid-type]
    limits = {CONSTRAINTS[key]: value for key, value in schema.items() if key in CONSTRAINTS}
    return Annotated[base, Field(**limits)] if limits else base


def pydantic_errors(schema: Any, value: Any) -> list[tuple[Any, str, str]]:
    try:
        TypeAdapter(pydantic_type(schema)).validate_python(value)
    except ValidationError as error:
        return [(list(item["loc"]), item["type"], item["msg"]) for item in error.errors()]
    return []


def our_errors(slug: str, variant: Any, name: str, value: Any) -> list[tuple[Any, str, str]]:
    key = get_model(slug).discriminator
    tag = {key: variant["properties"][key]["const"]} if key else {}
    depth = 3 if key else 2
    return [
        (error["loc"][depth:], "literal_error" if error["type"] == "enum" else error["type"], error["msg"])
        for error in spec_errors(get_model(slug), {**tag, name: value})
        if error["loc"][depth - 1 :][:1] == [name]
    ]


class TestAValueIsJudgedAsPydanticDoes:
    @pytest.mark.parametrize(("slug", "variant", "name"), FIELDS)
    def test_with_the_same_errors_in_the_same_words(self, slug: str, variant: Any, name: str) -> None:
        schema = variant["properties"][name]
        for value in SAMPLES:
            assert our_errors(slug, variant, name, value) == pydantic_errors(schema, value), repr(value)[:60]


class TestABody:
    def test_with_unknown_fields_passes_where_the_schema_is_open(self) -> None:
        assert spec_errors(get_model("flux-2-pro"), {"prompt": "a cat", "aspect_ratio": "16:9"}) == []

    def test_with_unknown_fields_is_refused_where_it_is_strict(self) -> None:
        body = {"prompt": "a cat", "seed": 7}
        (error,) = spec_errors(get_model("flux-3-image"), body)
        assert error == {
            "type": "extra_forbidden",
            "loc": ["body", "seed"],
            "msg": "Extra inputs are not permitted",
            "input": 7,
        }

    def test_without_a_required_field_says_which(self) -> None:
        (error,) = spec_errors(get_model("flux-2-pro"), {})
        assert error == {"type": "missing", "loc": ["body", "prompt"], "msg": "Field required", "input": {}}

    def test_may_break_rules_that_only_the_docs_state(self) -> None:
        assert spec_errors(get_model("flux-2-pro"), {"prompt": "a cat", "width": 1001, "height": 9000}) == []

    def test_with_the_schemas_own_zero_is_refused(self) -> None:
        (error,) = spec_errors(get_model("flux-2-pro"), {"prompt": "a cat", "width": 0})
        assert (error["type"], error["ctx"]) == ("greater_than_equal", {"ge": 64})

    @pytest.mark.parametrize(
        ("body", "kind"), [(None, "missing"), ([], "model_attributes_type"), ("x", "model_attributes_type")]
    )
    def test_that_is_no_object_is_one_error(self, body: Any, kind: str) -> None:
        (error,) = spec_errors(get_model("flux-2-pro"), body)
        assert (error["type"], error["loc"]) == (kind, ["body"])

    def test_for_an_unknown_endpoint_is_not_judged(self) -> None:
        assert spec_errors(get_model("flux-9"), {"anything": 1}) == []


class TestATaggedBody:
    def test_without_its_mode(self) -> None:
        (error,) = spec_errors(get_model("flux-3-video"), {"prompt": "a cat"})
        assert (error["type"], error["loc"]) == ("union_tag_not_found", ["body"])

    def test_with_a_mode_nobody_knows(self) -> None:
        (error,) = spec_errors(get_model("flux-3-video"), {"mode": "t3v"})
        assert error["type"] == "union_tag_invalid"
        assert error["msg"].startswith("Input tag 't3v' found using 'mode' does not match any")

    def test_has_the_mode_in_the_location(self) -> None:
        (error,) = spec_errors(get_model("flux-3-video"), {"mode": "text-to-video"})
        assert error["loc"] == ["body", "t2v", "prompt"]


values = st.sampled_from(SAMPLES)


class TestARequestWithoutProblems:
    @given(data=st.data(), slug=st.sampled_from(model_names()))
    def test_is_never_refused_by_the_server(self, data: st.DataObject, slug: str) -> None:
        model = get_model(slug)
        variant = data.draw(st.sampled_from(model.variants))
        request = data.draw(st.dictionaries(st.sampled_from(sorted(variant["properties"])), values))
        request.update(dict.fromkeys(variant.get("required", ()), "https://example.com/a.png"))
        sound = {problem.field for problem in find_problems(slug, request)}
        accepted = {name: value for name, value in request.items() if name not in sound}
        if not find_problems(slug, accepted):
            assert spec_errors(model, accepted) == []
