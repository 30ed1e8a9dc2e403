# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from airflow_provider_bfl.api.catalogue import (
    Model,
    closest_model,
    find_problems,
    get_model,
    model_names,
)

SEED_ENDPOINTS = (
    "flux-2-max",
    "flux-2-pro-preview",
    "flux-2-pro",
    "flux-2-flex",
    "flux-2-klein-4b",
    "flux-2-klein-9b-preview",
    "flux-2-klein-9b",
    "flux-kontext-max",
    "flux-kontext-pro",
    "flux-pro-1.1-ultra",
    "flux-pro-1.1",
    "flux-pro",
    "flux-dev",
)
FLUX_2 = tuple(slug for slug in model_names() if slug.startswith("flux-2-"))
# Looks like nothing that could appear in a message by chance.
SECRET = "zq7-Secret-xv9"


def smallest_value(schema: dict[str, Any]) -> Any:
    """Return one value the schema allows, as plain as possible."""
    branch = schema.get("anyOf", [schema])[0]
    if "const" in branch:
        return branch["const"]
    if "enum" in branch:
        return branch["enum"][0]
    return {"string": "https://example.com/a.png", "integer": 64}[branch["type"]]


def smallest_request(variant: Any) -> dict[str, Any]:
    return {name: smallest_value(variant["properties"][name]) for name in variant.get("required", ())}


def variants() -> Iterator[tuple[str, Any]]:
    for slug in model_names():
        for variant in get_model(slug).variants:
            yield slug, variant


def numeric_violations(rules: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    step = rules.get("multipleOf", 1)
    if "minimum" in rules:
        yield "below the minimum", rules["minimum"] - step
    if "maximum" in rules:
        yield "above the maximum", rules["maximum"] + step
    if "multipleOf" in rules:
        yield "not a multiple", rules.get("minimum", 0) + step + 1
    yield "bool", True
    yield "not finite", float("nan")
    if rules["type"] == "integer":
        yield "a fraction", rules.get("minimum", 0) + 0.5


def violations(spec: dict[str, Any], documented: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    branches = spec.get("anyOf", [spec])
    if {"type": "null"} not in branches:
        yield "null", None
    yield "wrong type", {"an": "object"}
    for branch in branches:
        rules = {**branch, **documented} if branch.get("type") in {"integer", "number"} else branch
        if "enum" in rules or "const" in rules:
            yield "no such choice", "no such choice"
        elif rules["type"] in {"integer", "number"}:
            yield from numeric_violations(rules)
        if "minLength" in rules:
            yield "too short", "x" * (rules["minLength"] - 1)
        if "maxLength" in rules:
            yield "too long", "https://example.com/" + "x" * rules["maxLength"]
        if rules.get("format") == "uri":
            yield "not a URL", "example.com/hook"
    if "pattern" in documented:
        yield "no match", "wide"


def violation_cases() -> Iterator[Any]:
    for slug, variant in variants():
        model = get_model(slug)
        documented = model.documented.get("properties", {})
        for name, spec in variant["properties"].items():
            if name == model.discriminator:
                continue
            for label, value in violations(spec, documented.get(name, {})):
                request = {**smallest_request(variant), name: value}
                yield pytest.param(slug, request, name, id=f"{slug}-{request.get('mode', '')}-{name}-{label}")


def only_problem(slug: str, request: dict[str, Any]) -> tuple[str, str]:
    (problem,) = find_problems(slug, request)
    return problem.field, problem.message


class TestEveryEndpointIsUsable:
    @pytest.mark.parametrize("slug", SEED_ENDPOINTS)
    def test_an_endpoint_of_the_docs_is_known(self, slug: str) -> None:
        assert get_model(slug).known

    @pytest.mark.parametrize(("slug", "variant"), list(variants()))
    def test_its_smallest_request_has_no_problem(self, slug: str, variant: Any) -> None:
        assert find_problems(slug, smallest_request(variant)) == ()

    @pytest.mark.parametrize(("slug", "variant"), list(variants()))
    def test_none_of_its_required_fields_may_be_missing(self, slug: str, variant: Any) -> None:
        for name in variant.get("required", ()):
            request = smallest_request(variant)
            del request[name]
            assert only_problem(slug, request)[0] == name

    @pytest.mark.parametrize("slug", model_names())
    def test_its_schema_is_valid_and_holds_facts_only(self, slug: str) -> None:
        model = get_model(slug)
        Draft202012Validator.check_schema(dict(model.schema))
        Draft202012Validator.check_schema(dict(model.documented))
        for variant in model.variants:
            for spec in variant["properties"].values():
                assert not {"title", "description", "example", "$ref"} & set(spec)

    @pytest.mark.parametrize("slug", model_names())
    def test_its_overlay_speaks_of_its_own_fields(self, slug: str) -> None:
        model = get_model(slug)
        mentioned = {*model.media_fields, *model.documented.get("properties", ()), *model.aliases}
        assert mentioned <= set(model.field_names)
        assert model.kind in {"image", "video"}
        assert model.status in {"active", "preview", "beta", "legacy", "deprecated"}
        assert model.max_active > 0
        assert model.typical_seconds > 0

    def test_account_limits_are_the_documented_ones(self) -> None:
        limits = {slug: get_model(slug).max_active for slug in model_names()}
        special = {slug: limit for slug, limit in limits.items() if limit != 24}
        assert special == {"flux-kontext-max": 6, "flux-3-video": 5}

    def test_only_image_endpoints_have_an_output_format(self) -> None:
        defaults = {slug: get_model(slug).default_output_format for slug in model_names()}
        assert defaults["flux-2-pro"] == "jpeg"
        assert defaults["flux-kontext-pro"] == "png"
        assert {slug for slug, value in defaults.items() if value is None} == {
            "flux-3-image",
            "flux-3-video",
            "flux-tools/video-edit-v1",
            "flux-tools/video-upscale-v1",
        }

    def test_endpoints_without_webhooks_are_told(self) -> None:
        without = {slug for slug in model_names() if not get_model(slug).takes_webhooks}
        assert without == {
            "flux-3-image",
            "flux-3-video",
            "flux-tools/outpainting-v1",
            "flux-tools/video-edit-v1",
        }


class TestUnknownEndpoints:
    def test_get_defaults_and_no_validation(self) -> None:
        model = get_model("flux-9-ultra")
        assert model == Model("flux-9-ultra", known=False, kind="image", max_active=24, typical_seconds=10.0)
        assert find_problems("flux-9-ultra", {"whatever": object()}) == ()

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("flux2-pro", "flux-2-pro"),
            ("FLUX_2_MAX", "flux-2-max"),
            ("/v1/flux-dev", "flux-dev"),
            ("flux-tools/erase", "flux-tools/erase-v1"),
            ("flux-kontext", "flux-kontext-pro"),
            ("stable-diffusion", None),
            ("x" * 100_000, None),
        ],
    )
    def test_lead_to_the_closest_known_one(self, written: str, meant: str | None) -> None:
        assert closest_model(written) == meant


class TestOneMistakeIsOneProblem:
    @pytest.mark.parametrize(("slug", "request_body", "name"), list(violation_cases()))
    def test_and_it_names_the_field_and_the_model(self, slug: str, request_body: dict[str, Any], name: str) -> None:
        field, message = only_problem(slug, request_body)
        assert field == name
        assert message.startswith(f"{name} must ")
        assert slug in message
        assert message.endswith(".")

    @pytest.mark.parametrize(("slug", "variant"), list(variants()))
    def test_an_unknown_field_is_refused_everywhere(self, slug: str, variant: Any) -> None:
        field, message = only_problem(slug, {**smallest_request(variant), "made_up_zz": SECRET})
        assert field == "made_up_zz"
        assert "is not a field of" in message
        assert SECRET not in message

    def test_several_mistakes_are_told_at_once(self) -> None:
        request = {"widht": 64, "seed": "1", "output_format": "gif", "height": 65}
        fields = [problem.field for problem in find_problems("flux-2-pro", request)]
        assert fields == ["widht", "seed", "output_format", "height", "prompt"]

    def test_a_misspelt_required_field_is_not_also_missing(self) -> None:
        field, message = only_problem("flux-2-pro", {"promt": "a cat"})
        assert field == "promt"
        assert message.endswith("Did you mean prompt?")

    def test_a_misspelt_mode_is_not_also_missing(self) -> None:
        assert only_problem("flux-3-video", {"mod": "t2v", "prompt": "a cat"})[0] == "mod"


class TestMessagesSayWhatToWriteInstead:
    def test_a_size_by_aspect_ratio_on_flux_2(self) -> None:
        field, message = only_problem("flux-2-pro", {"prompt": "a cat", "aspect_ratio": "16:9"})
        assert field == "aspect_ratio"
        assert "BFL would ignore it and bill" in message
        assert message.endswith("use width and height.")

    @pytest.mark.parametrize("slug", ["flux-kontext-pro", "flux-pro-1.1-ultra"])
    def test_a_size_in_pixels_where_only_a_ratio_counts(self, slug: str) -> None:
        assert only_problem(slug, {"prompt": "a cat", "width": 512})[1].endswith("use aspect_ratio.")

    def test_a_typo(self) -> None:
        message = only_problem("flux-2-pro", {"prompt": "a cat", "widht": 512})[1]
        assert message.endswith("Did you mean width?")

    @pytest.mark.parametrize("slug", FLUX_2)
    def test_a_tolerance_that_only_flux_1_has(self, slug: str) -> None:
        request = {**smallest_request(get_model(slug).schema), "safety_tolerance": 6}
        assert "an integer from 0 to 5" in only_problem(slug, request)[1]

    @pytest.mark.parametrize(
        ("slug", "width", "legal"),
        [
            ("flux-dev", 1000, "992 or 1024"),
            ("flux-pro-1.1", 1441, "1440"),
            ("flux-dev", -5, "256"),
            ("flux-2-pro", 1000, "992 or 1008"),
            ("flux-2-pro", 65, "64 or 80"),
        ],
    )
    def test_a_width_between_the_steps(self, slug: str, width: int, legal: str) -> None:
        assert only_problem(slug, {"prompt": "a cat", "width": width})[1].endswith(f"nearest: {legal}.")

    def test_a_legal_size_is_really_legal(self) -> None:
        for width in (992, 1024, 1440, 256):
            assert find_problems("flux-dev", {"width": width}) == ()

    def test_an_output_format_by_its_file_name(self) -> None:
        message = only_problem("flux-2-pro", {"prompt": "a cat", "output_format": "JPG"})[1]
        assert 'one of "jpeg", "png" or "webp"' in message
        assert message.endswith('nearest: "jpeg".')

    def test_the_zero_of_the_schema_itself(self) -> None:
        assert "Leave it out" in only_problem("flux-2-pro", {"prompt": "a cat", "width": 0})[1]

    def test_an_area_above_the_limit(self) -> None:
        field, message = only_problem("flux-2-pro", {"prompt": "a cat", "width": 2064, "height": 2048})
        assert field == "width"
        assert "at most 4194304 pixels" in message
        assert find_problems("flux-2-pro", {"prompt": "a cat", "width": 2048, "height": 2048}) == ()

    def test_one_side_that_no_other_side_can_make_legal(self) -> None:
        assert only_problem("flux-2-pro", {"prompt": "a cat", "height": 65_552})[0] == "width"
        assert find_problems("flux-2-pro", {"prompt": "a cat", "height": 65_536}) == ()

    def test_outpainting_has_the_same_area_limit_but_no_step(self) -> None:
        canvas = {"input_image": "https://example.com/a.png", "width": 1001, "height": 1001}
        assert find_problems("flux-tools/outpainting-v1", canvas) == ()
        assert only_problem("flux-tools/outpainting-v1", {**canvas, "width": 4999})[0] == "width"

    @pytest.mark.parametrize(
        ("slug", "name", "advice"),
        [
            ("flux-2-pro", "image", "use input_image."),
            ("flux-pro-1.0-fill", "input_image", "use image."),
            ("flux-tools/vto-v2", "input_image", "use person."),
            ("flux-2-pro", "prompt_upsampling", "use disable_pup, which means the opposite."),
            ("flux-2-flex", "disable_pup", "use prompt_upsampling, which means the opposite."),
            ("flux-2-flex", "guidance_scale", "use guidance."),
            ("flux-2-klein-4b", "input_image_5", "at most 4 input images, input_image to input_image_4."),
            ("flux-2-pro", "num_images", "submit one task per result."),
            ("flux-2-pro", "raw", "it belongs to flux-pro-1.1-ultra."),
        ],
    )
    def test_a_field_of_another_api(self, slug: str, name: str, advice: str) -> None:
        request = {**smallest_request(get_model(slug).schema), name: 1}
        assert only_problem(slug, request)[1].endswith(advice)


class TestVideoModes:
    def test_a_missing_mode_names_the_modes(self) -> None:
        field, message = only_problem("flux-3-video", {"prompt": "a cat"})
        assert field == "mode"
        assert '"t2v", "i2v", "v2v" or "draft_enhance"' in message

    @pytest.mark.parametrize("mode", ["t3v", None, 1, ["t2v"]])
    def test_a_wrong_mode_is_the_only_problem(self, mode: Any) -> None:
        assert only_problem("flux-3-video", {"mode": mode, "prompt": "a cat"})[0] == "mode"

    @pytest.mark.parametrize(
        ("alias", "extra"),
        [
            ("text-to-video", {}),
            ("image-continuation", {"keyframes": "https://example.com/a.png"}),
            ("video-continuation", {"start_video": "https://example.com/a.mp4"}),
        ],
    )
    def test_long_names_are_modes_too(self, alias: str, extra: dict[str, str]) -> None:
        assert find_problems("flux-3-video", {"mode": alias, "prompt": "a cat", **extra}) == ()

    def test_a_field_of_another_mode_says_of_which(self) -> None:
        request = {"mode": "draft_enhance", "draft_cache": "https://example.com/a.bin", "prompt": "a cat"}
        assert only_problem("flux-3-video", request)[1].endswith("it belongs to mode t2v, i2v, v2v.")

    def test_the_longest_duration_depends_on_the_mode(self) -> None:
        clip = {"prompt": "a cat", "start_video": "https://example.com/a.mp4", "duration": 16}
        assert "from 5 to 15" in only_problem("flux-3-video", {**clip, "mode": "v2v"})[1]
        assert find_problems("flux-3-video", {"mode": "t2v", "prompt": "a cat", "duration": 16}) == ()

    @pytest.mark.parametrize(
        "keyframes",
        ["u", ["u", "u"], [3.5, "u"], [[0, "u"], [3.5, "u"]], (3.5, "u"), ((0, "u"), (3.5, "u")), ["u"] * 10],
    )
    def test_every_documented_form_of_keyframes_passes(self, keyframes: Any) -> None:
        request = {"mode": "i2v", "prompt": "a cat", "keyframes": keyframes}
        assert find_problems("flux-3-video", request) == ()

    @pytest.mark.parametrize("keyframes", [[], ["u"] * 11, [["u", 0]], [[0, "u", 1]], 7])
    def test_other_forms_do_not(self, keyframes: Any) -> None:
        request = {"mode": "i2v", "prompt": "a cat", "keyframes": keyframes}
        assert only_problem("flux-3-video", request)[0] == "keyframes"


class TestJsonSchemaNumbers:
    def test_a_whole_float_is_an_integer(self) -> None:
        assert find_problems("flux-dev", {"width": 1024.0, "seed": 7.0}) == ()

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**1000, True, "3"])
    def test_what_json_or_bfl_cannot_read_is_refused(self, value: Any) -> None:
        assert only_problem("flux-2-flex", {"prompt": "a cat", "guidance": value})[0] == "guidance"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=60)
    | st.just(10**1000)
    | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=6,
)
field_names = st.sampled_from(sorted({name for slug in model_names() for name in get_model(slug).field_names}))
requests = st.dictionaries(field_names | st.text(max_size=20), json_values, max_size=8)


class TestAnyRequest:
    @given(slug=st.sampled_from(model_names()), request_body=requests)
    def test_never_raises_and_tells_a_field_once(self, slug: str, request_body: dict[str, Any]) -> None:
        problems = find_problems(slug, request_body)
        assert len({problem.field for problem in problems}) == len(problems)
        assert all(problem.message.strip() for problem in problems)

    @given(data=st.data(), slug=st.sampled_from(model_names()))
    def test_never_shows_a_secret_a_prompt_or_a_picture(self, data: st.DataObject, slug: str) -> None:
        model = get_model(slug)
        private = {"prompt", "user", "webhook_url", "webhook_secret", "finetune_id", *model.media_fields}
        secrets = st.sampled_from([SECRET, [SECRET], {SECRET: SECRET}, SECRET * 5000, 918273645, {918273645}])
        request = data.draw(st.dictionaries(st.sampled_from(sorted(private)), secrets, min_size=1))
        told = " ".join(problem.message for problem in find_problems(slug, request))
        assert SECRET not in told
        assert "918273645" not in told

    @given(value=st.text(min_size=41))
    def test_shortens_a_long_value(self, value: str) -> None:
        message = only_problem("flux-2-pro", {"prompt": "a cat", "output_format": value})[1]
        assert f"a string of {len(value)} characters" in message
        assert len(message) < 200

    def test_survives_a_number_that_python_refuses_to_print(self) -> None:
        sides = {"prompt": "a cat", "width": 10**5000, "height": 10**5000}
        assert "a number too large to show" in only_problem("flux-2-pro", sides)[1]


class TestImporting:
    def test_loads_no_jsonschema_and_reads_no_file(self) -> None:
        code = (
            "import sys, airflow_provider_bfl.api.catalogue as c\n"
            "assert 'jsonschema' not in sys.modules\n"
            "assert c.load_catalogue.cache_info().currsize == 0\n"
            "c.get_model('flux-2-pro')\n"
            "assert 'jsonschema' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_prices_are_figures_for_every_endpoint_that_has_them(self) -> None:
        priced = {slug: get_model(slug).price for slug in model_names() if get_model(slug).price}
        assert set(SEED_ENDPOINTS) <= set(priced)
        assert {price["unit"] for price in priced.values() if price} == {
            "image",
            "megapixel",
            "megapixel-second",
            "second",
        }
