# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from PIL import Image

from airflow_provider_bfl.simulator import Simulator

if TYPE_CHECKING:
    from tests.simulator.conftest import Bfl

SEED_ENDPOINTS = {
    "flux-2-max": "jpeg",
    "flux-2-pro-preview": "jpeg",
    "flux-2-pro": "jpeg",
    "flux-2-flex": "jpeg",
    "flux-2-klein-4b": "jpeg",
    "flux-2-klein-9b-preview": "jpeg",
    "flux-2-klein-9b": "jpeg",
    "flux-kontext-max": "png",
    "flux-kontext-pro": "png",
    "flux-pro-1.1-ultra": "jpeg",
    "flux-pro-1.1": "jpeg",
    "flux-pro": "jpeg",
    "flux-dev": "jpeg",
}


def opened(content: bytes) -> Image.Image:
    image = Image.open(BytesIO(content))
    image.load()
    return image


class TestResults:
    @pytest.mark.parametrize("model", SEED_ENDPOINTS)
    def test_every_image_endpoint_delivers_a_valid_image_in_its_default_format(self, bfl: Bfl, model: str) -> None:
        answer = bfl.download(bfl.sample(bfl.submit(model)))
        assert answer.headers["Content-Type"] == f"image/{SEED_ENDPOINTS[model]}"
        assert opened(answer.content).format == SEED_ENDPOINTS[model].upper()

    @pytest.mark.parametrize("output_format", ["jpeg", "png", "webp"])
    def test_in_the_format_and_size_asked_for(self, bfl: Bfl, output_format: str) -> None:
        url = bfl.sample(bfl.submit(output_format=output_format, width=320, height=256))
        answer = bfl.download(url)
        assert urlsplit(url).path.endswith(f"/sample.{output_format}")
        assert answer.headers["Content-Type"] == f"image/{output_format}"
        assert (opened(answer.content).format, opened(answer.content).size) == (output_format.upper(), (320, 256))

    def test_are_the_same_bytes_for_the_same_seed_and_others_for_another(self, bfl: Bfl) -> None:
        first, again, other = (
            hashlib.sha256(bfl.download(bfl.sample(bfl.submit(seed=seed))).content).digest() for seed in (5, 5, 6)
        )
        assert first == again != other

    def test_repeat_from_run_to_run_with_a_seeded_simulator(self, bfl: Bfl) -> None:
        seeds = []
        for _ in range(2):
            with Simulator(seed=3) as simulator:
                replace(bfl, simulator=simulator).submit()
                seeds.append([(task.id, task.seed) for task in simulator.ledger.tasks])
        assert seeds[0] == seeds[1]

    def test_a_video_model_delivers_an_mp4(self, bfl: Bfl) -> None:
        answer = bfl.download(bfl.sample(bfl.submit("flux-3-video", mode="t2v", duration=10)))
        assert answer.headers["Content-Type"] == "video/mp4"
        assert answer.content[4:8] == b"ftyp"


class TestHeaders:
    def test_are_the_storage_services(self, bfl: Bfl) -> None:
        answer = bfl.download(bfl.sample(bfl.submit()))
        digest = hashlib.md5(answer.content, usedforsecurity=False).digest()
        assert answer.headers["Content-Length"] == str(len(answer.content))
        assert answer.headers["Content-MD5"] == base64.b64encode(digest).decode()
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["x-ms-blob-type"] == "BlockBlob"
        assert {"ETag", "Last-Modified"} <= set(answer.headers)
        assert "Access-Control-Allow-Origin" not in answer.headers

    def test_head_has_them_without_the_body(self, bfl: Bfl) -> None:
        url = bfl.sample(bfl.submit())
        got, head = bfl.download(url), bfl.request("HEAD", url)
        assert head.headers["Content-Length"] == got.headers["Content-Length"]
        assert head.content == b""

    def test_a_range_is_served(self, bfl: Bfl) -> None:
        url = bfl.sample(bfl.submit())
        whole = bfl.download(url).content
        part = bfl.download(url, headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole[10:20])
        assert part.headers["Content-Range"] == f"bytes 10-19/{len(whole)}"

    def test_a_range_past_the_end_is_416(self, bfl: Bfl) -> None:
        assert bfl.download(bfl.sample(bfl.submit()), headers={"Range": "bytes=999999999-"}).status_code == 416


class TestExpiry:
    @pytest.mark.parametrize(
        ("model", "fields", "lives_seconds"),
        [("flux-2-pro", {}, 600), ("flux-3-video", {"mode": "t2v"}, 3600)],
    )
    def test_the_url_lives_so_long_after_the_end_and_then_answers_403_xml(
        self, bfl: Bfl, model: str, fields: dict[str, str], lives_seconds: int
    ) -> None:
        submitted = bfl.submit(model, **fields)
        bfl.simulator.finish(submitted.json()["id"])
        url = bfl.poll(submitted).json()["result"]["sample"]
        bfl.simulator.advance(lives_seconds - 10)
        assert bfl.download(url).status_code == 200
        bfl.simulator.advance(10)
        answer = bfl.download(url)
        assert (answer.status_code, answer.headers["Content-Type"]) == (403, "application/xml")
        assert answer.headers["x-ms-error-code"] == "AuthenticationFailed"
        assert "<Code>AuthenticationFailed</Code>" in answer.text

    def test_polling_again_gives_the_same_url_by_default(self, bfl: Bfl) -> None:
        submitted = bfl.submit()
        first = bfl.sample(submitted)
        bfl.simulator.advance(700)
        assert bfl.poll(submitted).json()["result"]["sample"] == first

    def test_polling_again_can_mint_a_fresh_url(self, bfl: Bfl) -> None:
        bfl.simulator.settings(fresh_urls=True)
        submitted = bfl.submit()
        first = bfl.sample(submitted)
        bfl.simulator.advance(700)
        fresh = bfl.poll(submitted).json()["result"]["sample"]
        assert [bfl.download(url).status_code for url in (first, fresh)] == [403, 200]

    def test_the_lifetime_can_be_set(self, bfl: Bfl) -> None:
        bfl.simulator.settings(url_lifetime_seconds=1000)
        submitted = bfl.submit()
        url = bfl.sample(submitted)
        bfl.simulator.advance(700)
        assert bfl.download(url).status_code == 200


class TestWhatIsNotServed:
    def test_a_query_encoded_again(self, bfl: Bfl) -> None:
        url = bfl.sample(bfl.submit())
        assert bfl.download(url.replace("rsct=image/jpeg", "rsct=image%2Fjpeg")).status_code == 403

    def test_the_other_regions_results(self, bfl: Bfl) -> None:
        url = bfl.sample(bfl.submit(base=bfl.simulator.eu_url))
        addresses = bfl.simulator.addresses
        wrong = url.replace(addresses["delivery:eu"], addresses["delivery:us"])
        answer = bfl.download(wrong)
        assert (answer.status_code, answer.headers["x-ms-error-code"]) == (404, "BlobNotFound")

    def test_anything_else(self, bfl: Bfl) -> None:
        assert bfl.download(bfl.simulator.addresses["delivery:eu"] + "/durable/x").status_code == 404


class TestLeaks:
    def test_a_key_at_a_delivery_host_is_refused_and_flagged(self, bfl: Bfl) -> None:
        url = bfl.sample(bfl.submit())
        assert bfl.download(url, headers={"x-key": bfl.key}).status_code == 400
        assert [(leak.role, leak.where) for leak in bfl.simulator.ledger.leaks] == [("delivery", "header")]

    @pytest.mark.parametrize(
        ("headers", "suffix", "where"),
        [
            ({"Authorization": "Bearer bfl_test_key"}, "", "authorization"),
            ({"Authorization": "Basic anything"}, "", "authorization"),
            ({"Cookie": "key=bfl_test_key"}, "", "header"),
            ({}, "&key=bfl_test_key", "url"),
        ],
    )
    def test_so_is_any_other_way_to_send_it(self, bfl: Bfl, headers: dict[str, str], suffix: str, where: str) -> None:
        url = bfl.sample(bfl.submit())
        assert bfl.download(url + suffix, headers=headers).status_code == 400
        assert [leak.where for leak in bfl.simulator.ledger.leaks] == [where]

    def test_a_clean_generation_leaks_nothing(self, bfl: Bfl) -> None:
        bfl.download(bfl.sample(bfl.submit()))
        assert bfl.simulator.ledger.leaks == ()

    def test_a_key_in_a_url_of_an_api_host_is_flagged(self, bfl: Bfl) -> None:
        bfl.request("GET", bfl.submit().json()["polling_url"] + f"&x-key={bfl.key}")
        assert [(leak.role, leak.where) for leak in bfl.simulator.ledger.leaks] == [("poll", "url")]

    def test_the_canary_writes_down_what_arrives_without_repeating_the_key(self, bfl: Bfl) -> None:
        bfl.submit()
        url = f"{bfl.simulator.canary_url}/v1/get_result?key={bfl.key}"
        bfl.request("POST", url, headers={"x-key": bfl.key, "X-Trace": "seen"}, json={"k": bfl.key})
        ledger = bfl.simulator.ledger
        (row,) = ledger.of_role("canary")
        assert row.headers["X-Trace"] == "seen"
        assert {leak.where for leak in ledger.leaks} == {"header", "url", "body"}
        assert bfl.key not in repr(ledger)

    def test_the_ledger_holds_no_signature(self, bfl: Bfl) -> None:
        url = bfl.sample(bfl.submit())
        bfl.download(url)
        assert url.partition("sig=")[2] not in repr(bfl.simulator.ledger)
