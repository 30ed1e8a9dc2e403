# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_bfl import __version__
from airflow_provider_bfl.landing import Generation, Landed
from airflow_provider_bfl.landing.facts import read_sidecar, sidecar_of

LANDED = Landed(
    uri="s3://b/k.png",
    size=7,
    id="gen-1",
    model="flux-2-pro",
    status="Ready",
    seed=42,
    cost=3.5,
    content_type="image/png",
    sha256="ab" * 32,
    sidecar_uri="s3://b/k.png.json",
    submitted_at=1_700_000_000.25,
    ready_at=1_700_000_003.0,
    landed_at=1_700_000_004.0,
    url_age_seconds=1.0,
)


def sidecar(request: dict[str, Any] | None, *, record_prompt: bool = True) -> dict[str, Any]:
    generation = Generation(id="gen-1", region="eu", request=request, task={"dag_id": "d", "try_number": 2})
    document: dict[str, Any] = json.loads(sidecar_of(LANDED, generation, record_prompt=record_prompt))
    return document


class TestTheResultOfATask:
    def test_it_has_exactly_the_promised_keys(self) -> None:
        assert set(LANDED.as_xcom()) == {
            "id", "model", "status", "seed", "cost", "uri", "content_type", "size", "sha256", "sidecar_uri",
            "submitted_at", "ready_at", "landed_at", "url_age_seconds", "reattached", "possibly_billed_twice",
        }  # fmt: skip

    def test_its_times_are_iso_8601_in_utc(self) -> None:
        assert LANDED.as_xcom()["submitted_at"] == "2023-11-14T22:13:20.250000+00:00"
        assert Landed(uri="file:///k", size=1).as_xcom()["submitted_at"] is None

    def test_it_is_small_json_even_with_the_longest_s3_key(self) -> None:
        uri = "s3://" + "b" * 63 + "/" + "k" * 1024
        landed = Landed(**{**LANDED.__dict__, "uri": uri, "sidecar_uri": f"{uri}.json"})
        assert len(json.dumps(landed.as_xcom())) < 4096


class TestTheSidecar:
    def test_it_has_the_result_and_where_it_came_from(self) -> None:
        document = sidecar({"prompt": "a fox", "width": 64})
        assert {name: document[name] for name in LANDED.as_xcom()} == LANDED.as_xcom()
        assert document["schema_version"] == 1
        assert document["provider_version"] == __version__
        assert document["region"] == "eu"
        assert document["request"] == {"prompt": "a fox", "width": 64}
        assert document["task"] == {"dag_id": "d", "try_number": 2}

    def test_it_can_be_read_back_as_the_same_result(self) -> None:
        assert read_sidecar(sidecar_of(LANDED, Generation(id="gen-1"), record_prompt=True)) == LANDED

    @pytest.mark.parametrize(
        "document",
        [b"", b"[]", b"\xff", b"{}", b'{"schema_version": 1}', b'{"schema_version": 2, "uri": "a", "size": 1}',
         b'{"schema_version": 1, "uri": "a", "size": 1, "landed_at": "yesterday"}', b"[" * 100_000],
    )  # fmt: skip
    def test_somebody_elses_json_is_not_taken_for_one(self, document: bytes) -> None:
        assert read_sidecar(document) is None

    def test_an_unknown_request_stays_unknown(self) -> None:
        assert sidecar(None)["request"] is None


class TestTheSidecarHasNoSecrets:
    def test_the_prompt_only_when_it_may_be_recorded(self) -> None:
        request = {"prompt": "CANARY", "negative_prompt": "CANARY", "prompt_upsampling": True, "seed": 1}
        assert sidecar(request, record_prompt=True)["request"] == request
        assert sidecar(request, record_prompt=False)["request"] == {"prompt_upsampling": True, "seed": 1}

    def test_never_the_webhook_secret(self) -> None:
        assert sidecar({"webhook_secret": "CANARY", "width": 1})["request"] == {"width": 1}

    def test_never_the_query_of_a_url(self) -> None:
        request = {
            "webhook_url": "https://hook.example/bfl?token=CANARY",
            "input_image": "https://bucket.example/cat.png?X-Amz-Signature=CANARY",
            "more": [{"image": "https://bucket.example/dog.png?sig=CANARY"}],
        }
        document = sidecar(request)["request"]
        assert "CANARY" not in json.dumps(document)
        assert document["input_image"] == "https://bucket.example/cat.png?…"

    def test_media_that_was_left_in_becomes_its_digest(self) -> None:
        document = sidecar({"input_image": "QUJD" * 1000, "mask": b"raw"})["request"]
        assert document["input_image"].startswith("sha256:")
        assert document["mask"].startswith("sha256:")
        assert len(document["input_image"]) == 71

    def test_a_long_prompt_is_not_taken_for_media(self) -> None:
        assert sidecar({"prompt": "fox " * 1000})["request"] == {"prompt": "fox " * 1000}
