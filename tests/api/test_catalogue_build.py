# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bfl.api.catalogue import load_catalogue
from airflow_provider_bfl.api.catalogue_build import (
    CATALOGUE_PATH,
    NEW_OVERLAY,
    changes,
    dumps,
    main,
    openapi_document,
    rebuild,
)

PROSE = {"title": "A Title", "description": "Words.", "example": 42, "examples": [42], "x-mint": {"a": 1}}
COMPONENT = "#/components/schemas/"


def published() -> dict[str, Any]:
    """Return an OpenAPI document like BFL's: prose everywhere, float bounds, endpoints that generate nothing."""
    document: dict[str, Any] = json.loads(json.dumps(openapi_document(load_catalogue())))
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        schema.update(PROSE)
        for field in schema.get("properties", {}).values():
            field.update({key: value for key, value in PROSE.items() if "$ref" not in field})
            for branch in field.get("anyOf", [field]):
                for bound in {"minimum", "maximum", "multipleOf"} & set(branch):
                    branch[bound] = float(branch[bound])
    schemas["DeleteFinetuneInputs"] = {"type": "object", "properties": {"finetune_id": {"type": "string"}}}
    document["paths"]["/v1/delete_finetune"] = {
        "post": {
            "requestBody": {"content": {"application/json": {"schema": {"$ref": COMPONENT + "DeleteFinetuneInputs"}}}},
            "responses": {"200": {"content": {"application/json": {"schema": {"type": "object"}}}}},
        }
    }
    return document


def inputs_of(document: dict[str, Any], slug: str) -> dict[str, Any]:
    """Return the request component of an endpoint, to change it."""
    body = document["paths"][f"/v1/{slug}"]["post"]["requestBody"]
    name = body["content"]["application/json"]["schema"]["$ref"].removeprefix(COMPONENT)
    component: dict[str, Any] = document["components"]["schemas"][name]
    return component


def rebuilt(document: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    after = rebuild(document, load_catalogue())
    return after, changes(load_catalogue(), after)


class TestTheSameDocument:
    def test_gives_the_same_file_byte_for_byte(self) -> None:
        assert dumps(rebuild(published(), load_catalogue())) == CATALOGUE_PATH.read_text(encoding="utf-8")

    def test_reports_no_change(self) -> None:
        assert rebuilt(published())[1] == []

    def test_gives_the_same_file_in_another_order(self) -> None:
        document = published()
        document["paths"] = dict(reversed(document["paths"].items()))
        document["components"]["schemas"] = dict(reversed(document["components"]["schemas"].items()))
        assert dumps(rebuild(document, load_catalogue())) == dumps(load_catalogue())

    def test_does_not_change_what_it_was_given(self) -> None:
        document, current = published(), copy.deepcopy(dict(load_catalogue()))
        before = copy.deepcopy((document, current))
        rebuild(document, current)
        assert (document, current) == before


class TestAGeneratedDocument:
    def test_refers_to_components_as_fastapi_does(self) -> None:
        document = openapi_document(load_catalogue())
        operation = document["paths"]["/v1/flux-2-pro"]["post"]
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert [item["$ref"] for item in answer["anyOf"]] == [
            f"{COMPONENT}AsyncResponse",
            f"{COMPONENT}AsyncWebhookResponse",
        ]
        field = inputs_of(document, "flux-2-pro")["properties"]["output_format"]
        assert field["anyOf"][0] == {"$ref": f"{COMPONENT}OutputFormat"}
        assert document["components"]["schemas"]["OutputFormat"]["enum"] == ["jpeg", "png", "webp"]

    def test_has_every_component_it_refers_to(self) -> None:
        document = openapi_document(load_catalogue())
        text = json.dumps(document)
        names = {part.split('"')[0] for part in text.split(f'"{COMPONENT}')[1:]}
        assert names <= set(document["components"]["schemas"])

    def test_maps_each_video_mode_to_its_schema(self) -> None:
        body = inputs_of(openapi_document(load_catalogue()), "flux-3-video")
        assert set(body["discriminator"]["mapping"]) == {"t2v", "i2v", "v2v", "draft_enhance"}
        assert [item["$ref"] for item in body["oneOf"]] == list(body["discriminator"]["mapping"].values())

    def test_shares_one_component_among_equal_requests(self) -> None:
        document = openapi_document(load_catalogue())
        assert inputs_of(document, "flux-2-pro") is inputs_of(document, "flux-2-max")

    def test_leaves_out_what_bfl_does_not_publish(self) -> None:
        paths = openapi_document(load_catalogue())["paths"]
        assert "/v1/flux-pro" not in paths
        assert "/v1/flux-3-image" not in paths
        assert "/v1/get_result" in paths


class TestAChangedDocument:
    def test_brings_a_new_field(self) -> None:
        document = published()
        inputs_of(document, "flux-2-flex")["properties"]["style"] = {"type": "string", "title": "Style"}
        after, report = rebuilt(document)
        assert after["models"]["flux-2-flex"]["schema"]["properties"]["style"] == {"type": "string"}
        assert report == ['flux-2-flex: properties.style added: {"type": "string"}']

    def test_brings_a_new_bound_as_a_plain_number(self) -> None:
        document = published()
        inputs_of(document, "flux-dev")["properties"]["width"]["maximum"] = 2048.0
        after, report = rebuilt(document)
        assert json.dumps(after["models"]["flux-dev"]["schema"]["properties"]["width"]["maximum"]) == "2048"
        assert report == ["flux-dev: properties.width.maximum: 1440 -> 2048"]

    def test_takes_a_field_away(self) -> None:
        document = published()
        del inputs_of(document, "flux-pro-1.1-ultra")["properties"]["raw"]
        after, report = rebuilt(document)
        assert "raw" not in after["models"]["flux-pro-1.1-ultra"]["schema"]["properties"]
        assert report == ["flux-pro-1.1-ultra: properties.raw removed"]

    def test_keeps_a_field_that_is_named_like_prose(self) -> None:
        document = published()
        inputs_of(document, "flux-dev")["properties"]["title"] = {"type": "string"}
        assert "title" in rebuilt(document)[0]["models"]["flux-dev"]["schema"]["properties"]

    def test_brings_a_new_endpoint_with_the_default_overlay(self) -> None:
        document = published()
        document["paths"]["/v1/flux-4-pro"] = document["paths"]["/v1/flux-2-pro"]
        after, report = rebuilt(document)
        entry = after["models"]["flux-4-pro"]
        assert entry["status"] == "new"
        assert entry["in_openapi"] is True
        assert entry["schema"] == after["models"]["flux-2-pro"]["schema"]
        assert {key: entry[key] for key in NEW_OVERLAY} == NEW_OVERLAY
        assert report == ["flux-4-pro: new endpoint; its overlay holds defaults, fill it in"]

    def test_keeps_a_vanished_endpoint_and_says_so(self) -> None:
        document = published()
        del document["paths"]["/v1/flux-dev"]
        after, report = rebuilt(document)
        assert after["models"]["flux-dev"] == {**load_catalogue()["models"]["flux-dev"], "in_openapi": False}
        assert report == ["flux-dev: gone from the document; its last schema is kept"]

    def test_replaces_our_own_schema_once_bfl_publishes_one(self) -> None:
        document = published()
        document["paths"]["/v1/flux-pro"] = document["paths"]["/v1/flux-dev"]
        after, report = rebuilt(document)
        assert after["models"]["flux-pro"]["schema"] == after["models"]["flux-dev"]["schema"]
        assert report[0] == "flux-pro: now in the document; its schema replaces ours"

    def test_never_touches_an_overlay(self) -> None:
        document = published()
        for path in [path for path in document["paths"] if path.startswith("/v1/flux-2")]:
            del document["paths"][path]
        inputs_of(document, "flux-dev")["properties"] = {}
        after, _ = rebuilt(document)
        for slug, entry in load_catalogue()["models"].items():
            kept = {key: value for key, value in entry.items() if key not in {"schema", "in_openapi"}}
            assert {key: after["models"][slug][key] for key in kept} == kept

    def test_an_endpoint_that_answers_otherwise_is_no_generation(self) -> None:
        assert "delete_finetune" not in rebuilt(published())[0]["models"]

    def test_an_endpoint_that_answers_one_form_alone_is_a_generation(self) -> None:
        document = published()
        operation = document["paths"]["/v1/flux-tools/video-edit-v1"]["post"]
        answer = operation["responses"]["200"]["content"]["application/json"]
        answer["schema"] = {"$ref": f"{COMPONENT}AsyncResponse"}
        assert rebuilt(document)[1] == []

    def test_a_dangling_reference_is_an_error(self) -> None:
        document = published()
        del document["components"]["schemas"]["OutputFormat"]
        with pytest.raises(KeyError, match="OutputFormat"):
            rebuild(document, load_catalogue())


class TestTheCommand:
    @pytest.fixture
    def catalogue(self, tmp_path: Path) -> Path:
        path = tmp_path / "catalogue.json"
        path.write_bytes(CATALOGUE_PATH.read_bytes())
        return path

    def run(self, tmp_path: Path, document: dict[str, Any], *options: str) -> int:
        source = tmp_path / "openapi.json"
        source.write_text(json.dumps(document), encoding="utf-8")
        return main([str(source), *options])

    def test_leaves_the_file_as_it_was_when_nothing_changed(
        self, tmp_path: Path, catalogue: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(tmp_path, published(), "--catalogue", str(catalogue)) == 0
        assert catalogue.read_bytes() == CATALOGUE_PATH.read_bytes()
        assert capsys.readouterr().out == "no request schema changed\n"

    def test_writes_and_reports_what_changed(
        self, tmp_path: Path, catalogue: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        document = published()
        inputs_of(document, "flux-dev")["properties"]["width"]["maximum"] = 2048
        self.run(tmp_path, document, "--catalogue", str(catalogue), "--retrieved", "2027-01-31")
        written = json.loads(catalogue.read_text(encoding="utf-8"))
        assert written["models"]["flux-dev"]["schema"]["properties"]["width"]["maximum"] == 2048
        assert written["source"]["retrieved"] == "2027-01-31"
        assert capsys.readouterr().out == "flux-dev: properties.width.maximum: 1440 -> 2048\n"
