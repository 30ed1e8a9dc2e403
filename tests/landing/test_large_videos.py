# SPDX-License-Identifier: Apache-2.0
"""A video that goes to a store in many pieces becomes visible whole, or not at all and leaves nothing behind."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bfl.exceptions import BflStorageError
from airflow_provider_bfl.landing import Target, gcs, gcs_target, s3_target
from airflow_provider_bfl.simulator.padding import pad

if TYPE_CHECKING:
    from pathlib import Path

    from tests.landing.conftest import Bfl
    from tests.storage_servers import GCSServer, S3Server

#: Three parts for S3, whose parts cannot be smaller.
VIDEO_BYTES = 18 * 1024**2

#: Google's client sends up to 8 MB in one request; of more, the pieces are made small here.
GOOGLE_CHUNK_BYTES = 2 * 1024**2
GOOGLE_VIDEO_BYTES = 9 * 1024**2


def grown(bodies: dict[str, bytes], size: int) -> bytes:
    return b"".join(pad(bodies["mp4"], "mp4", size).pieces())


@pytest.fixture
def video(bfl: Bfl, bodies: dict[str, bytes]) -> bytes:
    """What the generation delivers."""
    body = grown(bodies, VIDEO_BYTES)
    bfl.deliveries, bfl.content_type = [body], "video/mp4"
    return body


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    return s3_server.new_bucket()


@pytest.fixture
def in_s3(s3_server: S3Server, bucket: str) -> Target:
    return s3_target(bucket, "clips/fox.mp4", aws_conn_id=s3_server.conn_id)


def breaks_at_part(target: Target, number: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    client: Any = target.store._client  # type: ignore[attr-defined]
    really = client.upload_part

    def upload_part(**arguments: Any) -> Any:
        if arguments["PartNumber"] == number:
            raise error
        return really(**arguments)

    monkeypatch.setattr(client, "upload_part", upload_part)


def multiparts(s3_server: S3Server, bucket: str) -> list[Any]:
    found: list[Any] = s3_server.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return found


class TestAVideoOnItsWayToS3:
    def test_arrives_whole_as_what_it_is(
        self, bfl: Bfl, video: bytes, in_s3: Target, s3_server: S3Server, bucket: str
    ) -> None:
        landed = bfl.land(in_s3, output_format="mp4")

        stored = s3_server.client.get_object(Bucket=bucket, Key="clips/fox.mp4")
        assert stored["ContentType"] == "video/mp4"
        assert hashlib.sha256(stored["Body"].read()).hexdigest() == landed.sha256
        assert landed.size == len(video)
        assert multiparts(s3_server, bucket) == []

    @pytest.mark.parametrize("number", [1, 3])
    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
    @pytest.mark.usefixtures("video")
    def test_leaves_nothing_when_its_task_is_ended(
        self,
        bfl: Bfl,
        in_s3: Target,
        s3_server: S3Server,
        bucket: str,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        error: BaseException,
    ) -> None:
        breaks_at_part(in_s3, number, error, monkeypatch)

        with pytest.raises(type(error)):
            bfl.land(in_s3)

        assert multiparts(s3_server, bucket) == []
        assert s3_server.keys(bucket) == []

    @pytest.mark.usefixtures("video")
    def test_sends_no_part_after_the_upload_was_given_up(
        self, bfl: Bfl, in_s3: Target, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        breaks_at_part(in_s3, 1, KeyboardInterrupt(), monkeypatch)

        with pytest.raises(KeyboardInterrupt):
            bfl.land(in_s3)

        sent = [(method, "partNumber" in query) for method, _, query in s3_server.door.requests]
        assert sent[-1] == ("DELETE", False)

    @pytest.mark.usefixtures("video")
    def test_that_cannot_be_given_up_either_reports_the_first_failure(
        self, bfl: Bfl, in_s3: Target, s3_server: S3Server
    ) -> None:
        status = "503 Service Unavailable"
        s3_server.door.fail(99, status, "InternalError", when=lambda environ: environ["REQUEST_METHOD"] == "PUT")
        s3_server.door.fail(99, status, "SlowDown", when=lambda environ: environ["REQUEST_METHOD"] == "DELETE")

        with pytest.raises(BflStorageError, match="InternalError"):
            bfl.land(in_s3)


class TestAVideoOnItsWayToGoogle:
    @pytest.fixture
    def video(self, bfl: Bfl, bodies: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> bytes:
        """What the generation delivers, in five pieces."""
        monkeypatch.setattr(gcs, "_CHUNK_BYTES", GOOGLE_CHUNK_BYTES)
        body = grown(bodies, GOOGLE_VIDEO_BYTES)
        bfl.deliveries, bfl.content_type = [body], "video/mp4"
        return body

    @pytest.fixture
    def bucket(self, gcs_server: GCSServer) -> str:
        return gcs_server.new_bucket()

    @pytest.fixture
    def in_google(self, gcs_server: GCSServer, bucket: str) -> Target:
        return gcs_target(bucket, "clips/fox.mp4", gcp_conn_id=gcs_server.conn_id)

    @pytest.fixture
    def requests(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
        """Every request of Google's client: its method, and which bytes it brought."""
        from google.auth.transport.requests import AuthorizedSession

        made: list[tuple[str, Any]] = []
        really = AuthorizedSession.request

        def request(session: Any, method: str, url: str, *args: Any, **options: Any) -> Any:
            answer = really(session, method, url, *args, **options)  # type: ignore[no-untyped-call]
            made.append((method, (options.get("headers") or {}).get("content-range")))
            return answer

        monkeypatch.setattr(AuthorizedSession, "request", request)
        return made

    def test_arrives_whole_in_pieces(
        self,
        bfl: Bfl,
        video: bytes,
        in_google: Target,
        gcs_server: GCSServer,
        bucket: str,
        requests: list[tuple[str, Any]],
    ) -> None:
        landed = bfl.land(in_google, output_format="mp4")

        blob = gcs_server.client().bucket(bucket).get_blob("clips/fox.mp4")
        assert blob.content_type == "video/mp4"
        assert hashlib.sha256(blob.download_as_bytes()).hexdigest() == landed.sha256
        assert landed.size == len(video)
        assert sum(method == "PUT" for method, _ in requests) == 5

    @pytest.mark.usefixtures("video")
    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_leaves_nothing_when_its_task_is_ended(
        self,
        bfl: Bfl,
        in_google: Target,
        gcs_server: GCSServer,
        bucket: str,
        monkeypatch: pytest.MonkeyPatch,
        error: type[BaseException],
    ) -> None:
        from google.auth.transport.requests import AuthorizedSession

        really, pieces = AuthorizedSession.request, []

        def request(session: Any, method: str, *args: Any, **options: Any) -> Any:
            pieces.append(method)
            if pieces.count("PUT") == 3:
                raise error
            return really(session, method, *args, **options)  # type: ignore[no-untyped-call]

        monkeypatch.setattr(AuthorizedSession, "request", request)
        with pytest.raises(error):
            bfl.land(in_google)
        monkeypatch.undo()

        assert list(gcs_server.client().bucket(bucket).list_blobs()) == []


class TestAVideoOnItsWayToAFile:
    @pytest.mark.usefixtures("video")
    def test_leaves_nothing_when_its_task_is_ended(
        self, bfl: Bfl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import shutil

        from airflow_provider_bfl.landing import open_target

        def copy(source: Any, target: Any, length: int) -> None:
            target.write(source.read(length))
            raise KeyboardInterrupt

        monkeypatch.setattr(shutil, "copyfileobj", copy)
        with pytest.raises(KeyboardInterrupt):
            bfl.land(open_target(f"file://{tmp_path}/clips/fox.mp4"))

        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
