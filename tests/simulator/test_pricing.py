# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import random
from typing import Any

import pytest

from airflow_provider_bfl.api.catalogue import get_model
from airflow_provider_bfl.simulator.artwork import artwork_of, output_size, shown_prompt
from airflow_provider_bfl.simulator.images import draw
from airflow_provider_bfl.simulator.pricing import quote
from airflow_provider_bfl.simulator.tasks import Artwork


def picture(width: int, height: int) -> str:
    return base64.b64encode(draw(Artwork("", 1, width, height, "png"))).decode()


def cost(model: str, **body: Any) -> float:
    return quote(get_model(model), body).cost


class TestFlux2IsPaidByMegapixel:
    @pytest.mark.parametrize(
        ("model", "size", "credits_due"),
        [
            ("flux-2-pro", (1024, 1024), 3.0),
            ("flux-2-pro", (256, 256), 3.0),
            ("flux-2-pro", (1440, 1440), 4.5),
            ("flux-2-pro", (2048, 2048), 7.5),
            ("flux-2-max", (1024, 1024), 7.0),
            ("flux-2-flex", (1024, 1040), 10.0),
            ("flux-2-klein-4b", (1024, 1040), 1.5),
            ("flux-2-klein-9b", (1024, 1024), 1.5),
        ],
    )
    def test_the_result_is_rounded_up_to_whole_megapixels(
        self, model: str, size: tuple[int, int], credits_due: float
    ) -> None:
        assert cost(model, width=size[0], height=size[1]) == pytest.approx(credits_due)

    def test_one_reference_is_paid_by_its_size(self) -> None:
        assert cost("flux-2-pro", width=1024, height=1024, input_image=picture(1440, 1440)) == pytest.approx(6.0)

    def test_several_references_are_a_megapixel_each(self) -> None:
        given = {"input_image": picture(1440, 1440), "input_image_2": picture(512, 512)}
        assert cost("flux-2-pro", width=1024, height=1024, **given) == pytest.approx(6.0)

    def test_a_url_counts_as_a_megapixel(self) -> None:
        assert cost("flux-2-pro", input_image="https://example.org/a.png") == pytest.approx(4.5)

    def test_the_echo_has_two_decimals(self) -> None:
        told = quote(get_model("flux-2-pro"), {"width": 256, "height": 256})
        assert (told.input_mp, told.output_mp, told.echoed) == (0.0, 0.06, True)


class TestTheOthersHaveAPrice:
    @pytest.mark.parametrize(
        ("model", "body", "credits_due"),
        [
            ("flux-kontext-pro", {}, 4),
            ("flux-kontext-max", {}, 8),
            ("flux-pro-1.1-ultra", {}, 6),
            ("flux-dev", {}, 2.5),
            ("flux-tools/outpainting-v1", {"width": 512, "height": 512}, 20),
            ("flux-tools/outpainting-v1", {"width": 512, "height": 512, "mode": "fast"}, 4.5),
            ("flux-3-image", {}, 4.8),
            ("flux-3-image", {"resolution": "2k"}, 10),
            ("flux-3-video", {"mode": "t2v", "duration": 10}, 170),
            ("flux-3-video", {"mode": "text-to-video", "duration": 10, "resolution": "uhd"}, 800),
            ("flux-3-video", {"mode": "video-continuation", "duration": 10}, 410),
            ("flux-3-video", {"mode": "t2v", "duration": 10, "draft": True}, 60),
            ("flux-tools/video-edit-v1", {}, 15),
        ],
    )
    def test_per_image_or_second(self, model: str, body: dict[str, Any], credits_due: float) -> None:
        assert cost(model, **body) == pytest.approx(credits_due)

    def test_flux_1_does_not_echo_it(self) -> None:
        assert not quote(get_model("flux-dev"), {}).echoed

    def test_video_settles_it_later(self) -> None:
        told = quote(get_model("flux-3-video"), {"mode": "t2v"})
        assert (told.echoed, told.settled) == (False, True)


class TestSize:
    @pytest.mark.parametrize(
        ("model", "body", "size"),
        [
            ("flux-2-pro", {}, (1024, 1024)),
            ("flux-2-pro", {"width": 640, "height": 384}, (640, 384)),
            ("flux-2-pro", {"width": None, "height": 512}, (1024, 512)),
            ("flux-pro-1.1", {}, (1024, 768)),
            ("flux-kontext-pro", {}, (1024, 1024)),
            ("flux-kontext-pro", {"aspect_ratio": "16:9"}, (1376, 768)),
            ("flux-pro-1.1-ultra", {}, (2752, 1536)),
            ("flux-3-image", {"aspect_ratio": "1:2"}, (736, 1440)),
            ("flux-tools/outpainting-v1", {"width": 512, "height": 640}, (512, 640)),
        ],
    )
    def test_from_the_request_then_the_schema(self, model: str, body: dict[str, Any], size: tuple[int, int]) -> None:
        assert output_size(get_model(model), body) == size

    def test_an_edit_without_a_size_keeps_the_first_references(self) -> None:
        assert output_size(get_model("flux-2-pro"), {"input_image": picture(640, 320)}) == (640, 320)

    def test_expand_grows_by_its_sides(self) -> None:
        body = {"image": picture(640, 320), "left": 64, "bottom": 32}
        assert output_size(get_model("flux-pro-1.0-expand"), body) == (704, 352)


class TestWhatTheResultReports:
    def test_flux_2_pro_rewrites_the_prompt(self) -> None:
        told = shown_prompt(get_model("flux-2-pro"), {"prompt": "a kite"})
        assert told.startswith("a kite.")
        assert told != "a kite"

    @pytest.mark.parametrize(
        ("model", "body"),
        [
            ("flux-2-pro", {"disable_pup": True}),
            ("flux-2-flex", {"prompt_upsampling": False}),
            ("flux-2-klein-4b", {}),
            ("flux-dev", {}),
        ],
    )
    def test_unless_told_not_to_or_not_able_to(self, model: str, body: dict[str, Any]) -> None:
        assert shown_prompt(get_model(model), {"prompt": "a kite"} | body) == "a kite"

    def test_a_given_seed_is_used_and_a_missing_one_drawn(self) -> None:
        model = get_model("flux-2-pro")
        assert artwork_of(model, {"prompt": "a", "seed": 5}, random.Random(1)).seed == 5
        drawn = [artwork_of(model, {"prompt": "a"}, random.Random(1)).seed for _ in range(2)]
        assert drawn[0] == drawn[1] > 0

    def test_formats_default_to_the_models_own(self) -> None:
        formats = [
            artwork_of(get_model(name), {}, random.Random(1)).format for name in ("flux-dev", "flux-kontext-pro")
        ]
        assert formats == ["jpeg", "png"]
