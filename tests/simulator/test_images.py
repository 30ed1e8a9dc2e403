# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from airflow_provider_bfl.simulator.images import draw, image_size
from airflow_provider_bfl.simulator.padding import pad
from airflow_provider_bfl.simulator.tasks import Artwork
from airflow_provider_bfl.simulator.video import clip

ARTWORK = Artwork("a red kite over dunes at noon", 7, 320, 192, "jpeg")
FORMATS = ["jpeg", "png", "webp"]


def opened(content: bytes) -> Image.Image:
    image = Image.open(BytesIO(content))
    image.load()
    return image


def boxes(content: bytes) -> Iterator[tuple[str, bytes]]:
    position = 0
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        yield kind.decode(), content[position + 8 : position + length]
        position += length


class TestDrawing:
    @pytest.mark.parametrize("image_format", FORMATS)
    def test_gives_the_format_and_size_asked_for(self, image_format: str) -> None:
        image = opened(draw(replace(ARTWORK, format=image_format)))
        assert (image.format, image.size) == (image_format.upper(), (320, 192))

    def test_is_the_same_for_the_same_request(self) -> None:
        first = draw(ARTWORK)
        draw.cache_clear()
        assert draw(replace(ARTWORK)) == first

    @pytest.mark.parametrize("change", [{"seed": 8}, {"prompt": "a blue kite"}])
    def test_differs_for_another_seed_or_prompt(self, change: dict[str, object]) -> None:
        assert draw(replace(ARTWORK, **change)) != draw(ARTWORK)  # type: ignore[arg-type]

    @pytest.mark.parametrize("size", [(64, 64), (64, 2048), (2048, 64)])
    def test_survives_odd_shapes_and_empty_prompts(self, size: tuple[int, int]) -> None:
        assert opened(draw(Artwork("", 0, *size, "png"))).size == size


class TestReadingTheSizeOfAReference:
    @pytest.mark.parametrize("image_format", FORMATS)
    def test_from_base64_with_and_without_a_prefix(self, image_format: str) -> None:
        encoded = base64.b64encode(draw(replace(ARTWORK, format=image_format))).decode()
        assert image_size(encoded) == (320, 192)
        assert image_size(f"data:image/{image_format};base64,{encoded}") == (320, 192)

    @pytest.mark.parametrize("value", ["https://example.org/a.png", "bm90IGFuIGltYWdl", "%%%", ""])
    def test_is_none_for_anything_else(self, value: str) -> None:
        assert image_size(value) is None


class TestPadding:
    @pytest.mark.parametrize("image_format", FORMATS)
    @pytest.mark.parametrize("size_bytes", [100_000, 3_000_002])
    def test_a_padded_image_has_the_size_asked_for_and_is_still_valid(self, image_format: str, size_bytes: int) -> None:
        content = draw(replace(ARTWORK, format=image_format))
        padded = pad(content, image_format, size_bytes)
        grown = b"".join(padded.pieces())
        assert len(grown) == padded.size_bytes
        assert abs(len(grown) - size_bytes) <= 1
        assert opened(grown).tobytes() == opened(content).tobytes()

    def test_a_padded_clip_is_made_of_whole_boxes(self) -> None:
        grown = b"".join(pad(clip(ARTWORK, seconds=5), "mp4", 3_000_000).pieces())
        assert len(grown) == 3_000_000
        assert [kind for kind, _ in boxes(grown)] == ["ftyp", "moov", "mdat", "free"]

    def test_every_filler_chunk_of_a_png_has_a_right_checksum(self) -> None:
        grown = b"".join(pad(draw(replace(ARTWORK, format="png")), "png", 3_000_000).pieces())
        position, kinds = 8, []
        while position < len(grown):
            (length,) = struct.unpack_from(">I", grown, position)
            named = grown[position + 4 : position + 8 + length]
            assert struct.unpack_from(">I", grown, position + 8 + length) == (zlib.crc32(named),)
            kinds.append(named[:4])
            position += length + 12
        assert kinds.count(b"paDd") == 3

    def test_never_shrinks(self) -> None:
        content = draw(ARTWORK)
        assert b"".join(pad(content, "jpeg", 10).pieces()) == content

    def test_no_piece_is_larger_than_a_megabyte(self) -> None:
        for image_format in [*FORMATS, "mp4"]:
            content = clip(ARTWORK, seconds=5) if image_format == "mp4" else draw(replace(ARTWORK, format=image_format))
            assert max(map(len, pad(content, image_format, 5_000_000).pieces())) <= 1 << 20


class TestClip:
    def test_holds_one_jpeg_where_its_table_says(self) -> None:
        content = clip(Artwork("waves", 3, 1280, 720, "mp4"), seconds=5)
        parts = dict(boxes(content))
        assert list(parts) == ["ftyp", "moov", "mdat"]
        assert opened(parts["mdat"]).size == (320, 180)
        table = parts["moov"].index(b"stco")
        offset = struct.unpack_from(">I", parts["moov"], table + 12)[0]
        assert content[offset : offset + 2] == b"\xff\xd8"

    def test_is_as_long_as_asked_for(self) -> None:
        header = dict(boxes(dict(boxes(clip(ARTWORK, seconds=7.5)))["moov"]))["mvhd"]
        timescale, duration = struct.unpack_from(">II", header, 12)
        assert duration / timescale == 7.5
