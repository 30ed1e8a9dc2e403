# SPDX-License-Identifier: Apache-2.0
"""Thumbnails and facts for the gallery: small, harmless, and never in the way of a result."""

from __future__ import annotations

import base64
import json
import os
import struct
import sys
import zlib
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from airflow_provider_bfl.landing import Generation, Landed
from airflow_provider_bfl.landing.preview import (
    MAX_THUMBNAIL_CHARS,
    MAX_TILE_CHARS,
    MAX_TILES,
    ContactSheet,
    Thumbnail,
    generation_preview,
    make_thumbnail,
)
from airflow_provider_bfl.simulator.tasks import Artwork
from airflow_provider_bfl.simulator.video import clip


def noise(width: int, height: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """What compresses worst."""
    body = BytesIO()
    channels = len(mode)
    Image.frombytes(mode, (width, height), os.urandom(width * height * channels)).save(body, kind)
    return body.getvalue()


def thumbnail_of(content: bytes, **options: Any) -> Thumbnail | None:
    return make_thumbnail(BytesIO(content), len(content), **options)


def decoded(thumbnail: Thumbnail | None) -> Image.Image:
    assert thumbnail is not None
    head, _, body = thumbnail.data_url.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(BytesIO(base64.b64decode(body)))


class TestAThumbnail:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    @pytest.mark.parametrize("size", [(64, 64), (2048, 1024)], ids=["small", "large"])
    @pytest.mark.parametrize("tile", [False, True], ids=["single", "tile"])
    def test_fits_whatever_the_picture_is(self, kind: str, size: tuple[int, int], tile: bool) -> None:
        thumbnail = thumbnail_of(noise(*size, kind), tile=tile)

        picture = decoded(thumbnail)
        assert thumbnail is not None
        assert len(thumbnail.data_url) <= (MAX_TILE_CHARS if tile else MAX_THUMBNAIL_CHARS)
        assert max(picture.size) <= min(max(size), 160 if tile else 512)
        assert (thumbnail.width, thumbnail.height) == size

    def test_keeps_the_shape_of_the_picture(self) -> None:
        width, height = decoded(thumbnail_of(noise(1600, 400))).size

        assert width / height == pytest.approx(4, rel=0.05)

    def test_keeps_transparency(self) -> None:
        assert decoded(thumbnail_of(noise(64, 64, mode="RGBA"))).mode == "RGBA"

    def test_says_nothing_of_where_a_camera_was(self) -> None:
        body, exif = BytesIO(), Image.Exif()
        exif[0x010F] = "WHEREABOUTS"
        Image.new("RGB", (64, 64)).save(body, "JPEG", exif=exif)

        thumbnail = thumbnail_of(body.getvalue())

        assert thumbnail is not None
        assert b"WHEREABOUTS" not in base64.b64decode(thumbnail.data_url.partition(",")[2])

    def test_leaves_the_body_as_it_was(self) -> None:
        content = noise(300, 200)
        body = BytesIO(content)

        make_thumbnail(body, len(content))

        assert body.getvalue() == content


class TestThereIsNoThumbnail:
    def test_of_a_video(self) -> None:
        assert thumbnail_of(clip(Artwork("a clip", 1, 256, 256, "mp4"), seconds=1)) is None

    @pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(40), b"<svg/>"])
    def test_of_what_is_no_picture_or_only_the_start_of_one(self, content: bytes) -> None:
        assert thumbnail_of(content) is None

    def test_of_a_picture_that_is_damaged_inside(self) -> None:
        content = bytearray(noise(200, 200))
        content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)

        assert thumbnail_of(bytes(content)) is None

    def test_of_a_small_file_that_says_it_is_huge(self) -> None:
        header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))

        assert thumbnail_of(b"\x89PNG\r\n\x1a\n" + chunk) is None

    def test_of_a_large_file_which_is_not_even_read(self) -> None:
        class Unreadable(BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise AssertionError("it was read")

        assert make_thumbnail(Unreadable(), 33 * 1024**2) is None

    def test_without_pillow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "PIL", None)

        assert thumbnail_of(b"\x89PNG\r\n\x1a\n") is None


class TestThePreviewOfAGeneration:
    GENERATION = Generation(
        id="g1",
        model="flux-2-pro",
        region="eu",
        request={
            "prompt": "a PRIVATE wish",
            "width": 512,
            "webhook_secret": "HUSH",
            "input_image": "https://x.example/a.png?sig=SIGNATURE",
        },
        cost=3.0,
        submitted_at=0.0,
    )

    def preview(self, *, record_prompt: bool = True, **facts: Any) -> dict[str, Any]:
        return generation_preview(self.GENERATION, status="Submitted", record_prompt=record_prompt, **facts)

    def test_tells_what_is_known_before_there_is_a_result(self) -> None:
        preview = self.preview()

        assert (preview["id"], preview["model"], preview["status"], preview["cost"]) == (
            "g1",
            "flux-2-pro",
            "Submitted",
            3,
        )
        assert preview["submitted_at"] == "1970-01-01T00:00:00+00:00"
        assert (preview["thumbnail"], preview.get("uri")) == (None, None)

    def test_believes_the_landed_result_over_the_submit(self) -> None:
        landed = Landed(uri="s3://b/k.png", size=5, id="g1", status="Ready", seed=7, cost=4.0).as_xcom()

        preview = self.preview(landed=landed, thumbnail=Thumbnail("data:image/webp;base64,AA", 8, 9))

        assert (preview["uri"], preview["status"], preview["seed"], preview["cost"]) == ("s3://b/k.png", "Ready", 7, 4)
        assert preview["model"] == "flux-2-pro", "what the result does not know is kept"
        assert (preview["thumbnail"], preview["width"], preview["height"]) == ("data:image/webp;base64,AA", 8, 9)

    def test_has_the_prompt_where_the_sidecar_may(self) -> None:
        assert self.preview()["prompt"] == "a PRIVATE wish"

    def test_has_no_prompt_where_the_sidecar_may_not(self) -> None:
        assert "PRIVATE" not in json.dumps(self.preview(record_prompt=False))

    @pytest.mark.parametrize("secret", ["HUSH", "SIGNATURE"])
    def test_has_no_secret(self, secret: str) -> None:
        assert secret not in json.dumps(self.preview())

    def test_stays_small_beside_its_thumbnail(self) -> None:
        generation = Generation(
            id="g", model="m", request={"prompt": "p" * 30_000, **{f"field_{n}": "v" * 2000 for n in range(50)}}
        )

        preview = generation_preview(generation, status="Submitted", record_prompt=True)

        assert len(json.dumps(preview)) < 10_000


class TestTheContactSheetOfABatch:
    def sheet(self, items: int, *, record_prompt: bool = True) -> dict[str, Any]:
        sheet, content = ContactSheet(record_prompt=record_prompt), noise(200, 200)
        for number in range(items):
            landed = Landed(uri=f"s3://b/{number}.png", size=len(content), id=str(number), status="Ready", seed=number)
            sheet.add(landed, BytesIO(content), name=f"item-{number}", prompt="a PRIVATE wish " + "x" * 5000)
        facts: dict[str, Any] = {"status": "Done", "model": None, "cost": 9.0, "manifest_uri": "s3://b/manifest.jsonl"}
        return sheet.preview(total=items, counts={"stored": items}, **facts)

    def test_has_the_items_that_landed_last(self) -> None:
        preview = self.sheet(MAX_TILES + 3)

        assert [item["name"] for item in preview["items"]] == [f"item-{n}" for n in range(3, MAX_TILES + 3)]
        assert (preview["total"], preview["counts"], preview["cost"]) == (15, {"stored": 15}, 9)

    def test_fits_together(self) -> None:
        preview = self.sheet(MAX_TILES)

        pictures = [item["thumbnail"] for item in preview["items"]]
        assert all(pictures)
        assert sum(map(len, pictures)) <= MAX_THUMBNAIL_CHARS
        assert len(json.dumps(preview)) < MAX_THUMBNAIL_CHARS + 10_000

    def test_has_prompts_where_the_sidecar_may(self) -> None:
        assert self.sheet(1)["items"][0]["prompt"].startswith("a PRIVATE wish")
        assert "PRIVATE" not in json.dumps(self.sheet(1, record_prompt=False))
