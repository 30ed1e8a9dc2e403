# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from io import BytesIO

import pytest

from airflow_provider_bfl.landing.verify import Media, UnusableBodyError, verify

WHOLE = [
    ("png", "image/png", "png"),
    ("jpeg", "image/jpeg", "jpg"),
    ("webp", "image/webp", "webp"),
    ("mp4", "video/mp4", "mp4"),
]


def look(body: bytes, *, declared_type: str | None = None, output_format: str | None = None) -> Media:
    return verify(BytesIO(body), len(body), declared_type=declared_type, output_format=output_format)


class TestTheBytesNameTheFormat:
    @pytest.mark.parametrize(("output_format", "content_type", "extension"), WHOLE)
    def test_whatever_the_server_calls_it(
        self, bodies: dict[str, bytes], output_format: str, content_type: str, extension: str
    ) -> None:
        media = look(bodies[output_format], declared_type="application/octet-stream", output_format=output_format)
        assert media == Media(content_type, extension)

    def test_another_format_than_asked_is_kept_with_a_warning(self, bodies: dict[str, bytes]) -> None:
        media = look(bodies["jpeg"], output_format="png")
        assert media.content_type == "image/jpeg"
        assert media.warning is not None
        assert "image/jpeg" in media.warning
        assert "'png'" in media.warning

    @pytest.mark.parametrize(
        ("brand", "index", "content_type"),
        [(b"avif", b"meta", "image/avif"), (b"qt  ", b"moov", "video/quicktime"), (b"iso6", b"moov", "video/mp4")],
    )
    def test_an_iso_file_is_told_by_its_brand(self, brand: bytes, index: bytes, content_type: str) -> None:
        body = b"\0\0\0\x10ftyp" + brand + b"\0\0\0\0" + b"\0\0\0\x0a" + index + b"\0\0"
        assert look(body).content_type == content_type


class TestATruncatedBodyIsRefused:
    @pytest.mark.parametrize("output_format", ["png", "jpeg", "webp", "mp4"])
    def test_wherever_it_was_cut(self, bodies: dict[str, bytes], output_format: str) -> None:
        whole = bodies[output_format]
        accepted = []
        for length in range(len(whole)):
            try:
                look(whole[:length], declared_type="image/png", output_format=output_format)
            except UnusableBodyError:
                continue
            accepted.append(length)
        assert accepted == []

    def test_a_jpeg_is_not_saved_by_the_end_marker_of_its_thumbnail(self, bodies: dict[str, bytes]) -> None:
        body = bodies["jpeg"][:-2]
        assert b"\xff\xd9" in body
        with pytest.raises(UnusableBodyError, match="end marker"):
            look(body)

    def test_a_video_cut_between_two_boxes_lacks_its_index(self, bodies: dict[str, bytes]) -> None:
        with pytest.raises(UnusableBodyError, match="moov"):
            look(bodies["mp4"][:-68])

    def test_a_gif_needs_its_trailer(self) -> None:
        assert look(b"GIF89a" + b"\1" * 30 + b";").content_type == "image/gif"
        with pytest.raises(UnusableBodyError, match="GIF"):
            look(b"GIF89a" + b"\1" * 30)


class TestBytesAfterTheEndDoNoHarm:
    @pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
    def test_padding(self, bodies: dict[str, bytes], output_format: str) -> None:
        assert look(bodies[output_format] + b"\0" * 64, output_format=output_format).warning is None

    def test_a_video_may_end_with_a_box_that_says_to_the_end(self, bodies: dict[str, bytes]) -> None:
        assert look(bodies["mp4"] + b"\0\0\0\0free" + b"\0" * 9).content_type == "video/mp4"


class TestWhatIsNoImageIsRefused:
    @pytest.mark.parametrize(
        "body",
        [
            b"<!DOCTYPE html><html>gateway</html>",
            b'\xef\xbb\xbf<?xml version="1.0"?><Error><Code>AuthenticationFailed</Code></Error>',
            b'  {"detail": "not found"}',
            b"[]",
            b"\n<html/>",
        ],
    )
    @pytest.mark.parametrize("declared_type", ["image/png", "video/mp4", "text/html", None])
    def test_text_even_when_the_server_calls_it_an_image(self, body: bytes, declared_type: str | None) -> None:
        with pytest.raises(UnusableBodyError, match="text"):
            look(body, declared_type=declared_type)

    def test_nothing_at_all(self) -> None:
        with pytest.raises(UnusableBodyError, match="empty"):
            look(b"", declared_type="image/png")

    @pytest.mark.parametrize(
        "declared_type", [None, "application/octet-stream", "text/plain", "image/", "image/../../x", "image/x y"]
    )
    def test_unknown_bytes_that_nobody_calls_an_image(self, declared_type: str | None) -> None:
        with pytest.raises(UnusableBodyError, match="no known format"):
            look(b"\x01\x02\x03\x04 whatever", declared_type=declared_type)

    def test_unknown_bytes_where_a_known_format_was_asked(self) -> None:
        with pytest.raises(UnusableBodyError, match="not image/png"):
            look(b"\x01\x02\x03\x04 whatever", declared_type="image/png", output_format="png")


class TestAFormatOfTheFutureIsStoredAsTheServerNamesIt:
    @pytest.mark.parametrize(
        ("declared_type", "content_type", "extension"),
        [
            ("image/jxl", "image/jxl", "jxl"),
            ("video/x-matroska; codecs=av1", "video/x-matroska", "matroska"),
            ("Video/WebM", "video/webm", "webm"),
        ],
    )
    def test_with_a_warning(self, declared_type: str, content_type: str, extension: str) -> None:
        media = look(b"\x01\x02\x03\x04", declared_type=declared_type, output_format="a-new-one")
        assert (media.content_type, media.extension) == (content_type, extension)
        assert media.warning is not None


class TestOnlyHeadersAreRead:
    @pytest.mark.parametrize("output_format", ["png", "jpeg", "webp", "mp4"])
    def test_a_large_body_is_not_read_into_memory(self, bodies: dict[str, bytes], output_format: str) -> None:
        filler = 32 * 1024 * 1024
        start, end = {
            "png": (bodies["png"][:-12] + filler.to_bytes(4, "big") + b"IDAT", b"crc!" + bodies["png"][-12:]),
            "jpeg": (bodies["jpeg"][:-2], b"\xff\xd9"),
            "webp": (b"RIFF" + (filler + 4).to_bytes(4, "little") + b"WEBP", b""),
            "mp4": (bodies["mp4"] + (filler + 8).to_bytes(4, "big") + b"free", b""),
        }[output_format]

        class Sparse(BytesIO):
            """A body whose middle is zeros that exist only when they are read."""

            amount = 0

            def read(self, count: int | None = -1) -> bytes:
                assert count is not None
                assert count >= 0
                Sparse.amount += count
                position = self.tell()
                self.seek(position + count)
                got = b""
                for at in range(position, min(position + count, len(start) + filler + len(end))):
                    inside = len(start) <= at < len(start) + filler
                    got += b"\0" if inside else (start[at : at + 1] or end[at - len(start) - filler :][:1])
                return got

        media = verify(Sparse(), len(start) + filler + len(end), output_format=output_format)
        assert media.warning is None
        assert Sparse.amount < 128 * 1024
