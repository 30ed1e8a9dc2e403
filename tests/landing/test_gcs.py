# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bfl.exceptions import BflObjectExistsError, BflStorageError
from airflow_provider_bfl.landing import Target, find_landed, gcs_target, open_target
from airflow_provider_bfl.landing.store import StoredObject

if TYPE_CHECKING:
    from tests.landing.conftest import Bfl
    from tests.storage_servers import GCSServer


@pytest.fixture
def bucket(gcs_server: GCSServer) -> str:
    return gcs_server.new_bucket()


@pytest.fixture
def target(gcs_server: GCSServer, bucket: str) -> Target:
    return gcs_target(bucket, "art/fox.png", gcp_conn_id=gcs_server.conn_id)


@pytest.fixture(params=["small", "large"])
def body(request: pytest.FixtureRequest, bfl: Bfl, bodies: dict[str, bytes], large_png: bytes) -> bytes:
    """What the generation delivers; a large one takes a resumable upload."""
    chosen = large_png if request.param == "large" else bodies["png"]
    bfl.deliveries = [chosen]
    return chosen


class TestAnObjectInGoogleCloudStorage:
    def test_has_the_bytes_and_says_what_it_is(
        self, bfl: Bfl, body: bytes, gcs_server: GCSServer, bucket: str, target: Target
    ) -> None:
        landed = bfl.land(target)
        blob = gcs_server.client().bucket(bucket).get_blob("art/fox.png")
        assert landed.uri == f"gs://{bucket}/art/fox.png"
        assert blob.download_as_bytes() == body
        assert blob.content_type == "image/png"
        assert blob.metadata == {"bfl-id": "gen-1", "bfl-model": "flux-2-pro", "sha256": landed.sha256}

    def test_has_a_sidecar(self, bfl: Bfl, gcs_server: GCSServer, bucket: str, target: Target) -> None:
        landed = bfl.land(target)
        blob = gcs_server.client().bucket(bucket).get_blob("art/fox.png.json")
        assert blob.content_type == "application/json"
        assert json.loads(blob.download_as_bytes())["uri"] == landed.uri

    def test_gets_the_users_options_and_metadata(self, bfl: Bfl, gcs_server: GCSServer, bucket: str) -> None:
        target = gcs_target(
            bucket,
            "art/fox.png",
            gcp_conn_id=gcs_server.conn_id,
            cache_control="max-age=60",
            metadata={"campaign": "spring", "sha256": "forged"},
        )
        landed = bfl.land(target)
        blob = gcs_server.client().bucket(bucket).get_blob("art/fox.png")
        assert blob.cache_control == "max-age=60"
        assert blob.metadata["campaign"] == "spring"
        assert blob.metadata["sha256"] == landed.sha256
        sidecar = gcs_server.client().bucket(bucket).get_blob("art/fox.png.json")
        assert "campaign" not in sidecar.metadata

    def test_is_found_again_by_its_uri(self, bfl: Bfl, gcs_server: GCSServer, bucket: str) -> None:
        target = open_target(f"gs://{bucket}/art/", storage_conn_id=gcs_server.conn_id)
        landed = bfl.land(target)
        assert find_landed(target, uri=landed.uri) == landed
        assert find_landed(target, uri=f"{landed.uri}x") is None


class TestANameThatIsTakenInGoogleCloudStorage:
    def test_overwrite_replaces(
        self, bfl: Bfl, body: bytes, target: Target, gcs_server: GCSServer, bucket: str
    ) -> None:
        bfl.other(b"GIF89a;").land(target)
        bfl.land(target, if_exists="overwrite")
        assert gcs_server.client().bucket(bucket).blob("art/fox.png").download_as_bytes() == body

    def test_skip_keeps(self, bfl: Bfl, target: Target) -> None:
        bfl.other(b"GIF89a;").land(target)
        assert bfl.land(target, if_exists="skip").id == "gen-2"
        assert bfl.downloads == []

    def test_error_fails(self, bfl: Bfl, target: Target, gcs_server: GCSServer, bucket: str) -> None:
        bfl.other(b"GIF89a;").land(target)
        with pytest.raises(BflObjectExistsError):
            bfl.land(target, if_exists="error")
        assert gcs_server.client().bucket(bucket).blob("art/fox.png").download_as_bytes() == b"GIF89a;"

    @pytest.mark.parametrize("if_exists", ["overwrite", "skip", "error"])
    def test_the_same_bytes_are_a_success(self, bfl: Bfl, body: bytes, target: Target, if_exists: Any) -> None:
        assert bfl.land(target, if_exists=if_exists) == bfl.land(target, if_exists=if_exists)

    def test_the_same_bytes_that_somebody_else_stored_are_compared(
        self, bfl: Bfl, body: bytes, target: Target, gcs_server: GCSServer, bucket: str
    ) -> None:
        blob = gcs_server.client().bucket(bucket).blob("art/fox.png")
        blob.upload_from_string(body)
        bfl.land(target, if_exists="error")
        blob.metadata = None
        blob.upload_from_string(body[:-1] + b"x")
        with pytest.raises(BflObjectExistsError):
            bfl.land(target, if_exists="error")

    def test_one_that_came_after_it_was_seen_free_is_not_replaced(
        self, bfl: Bfl, target: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bfl.other(b"GIF89a;").land(target)
        stat, seen = target.store.stat, []

        def late(key: str) -> StoredObject | None:
            seen.append(key)
            return None if len(seen) == 1 else stat(key)

        monkeypatch.setattr(target.store, "stat", late)
        with pytest.raises(BflObjectExistsError):
            bfl.land(target, if_exists="error")

    @pytest.mark.parametrize(("if_exists", "condition"), [("overwrite", False), ("skip", True), ("error", True)])
    def test_google_is_asked_to_see_to_that(
        self, bfl: Bfl, body: bytes, target: Target, monkeypatch: pytest.MonkeyPatch, if_exists: Any, condition: bool
    ) -> None:
        """The server of these tests honours the condition of small uploads only: of a large one, the wish is shown."""
        from google.auth.transport.requests import AuthorizedSession

        urls, request = [], AuthorizedSession.request

        def recorded(self: Any, method: str, url: str, *args: Any, **options: Any) -> Any:
            urls.append(url)
            return request(self, method, url, *args, **options)  # type: ignore[no-untyped-call]

        monkeypatch.setattr(AuthorizedSession, "request", recorded)
        bfl.land(target, if_exists=if_exists)
        upload = next(url for url in urls if "uploadType=" in url)
        assert ("uploadType=resumable" in upload) == (len(body) > 8 * 1024**2)
        assert ("ifGenerationMatch=0" in upload) == condition


class TestAnUploadThatFailsInGoogleCloudStorage:
    def test_at_a_bucket_that_is_not_there(self, bfl: Bfl, gcs_server: GCSServer) -> None:
        target = gcs_target("no-such-bucket", "k.png", gcp_conn_id=gcs_server.conn_id)
        with pytest.raises(BflStorageError, match=r"gs://no-such-bucket/.*create the bucket"):
            bfl.land(target)
        assert bfl.slept == []

    @pytest.mark.parametrize(
        ("error", "tries"),
        [("ServiceUnavailable", 4), ("TooManyRequests", 4), ("Forbidden", 1), ("Unauthorized", 1), ("OSError", 4)],
    )
    def test_is_repeated_only_where_that_may_help(
        self, bfl: Bfl, target: Target, monkeypatch: pytest.MonkeyPatch, error: str, tries: int
    ) -> None:
        from google.api_core import exceptions
        from google.cloud.storage import Blob

        calls = []

        def upload(self: Any, *args: Any, **options: Any) -> None:
            calls.append(1)
            raise getattr(exceptions, error, OSError)("POST https://storage.example/o?upload_id=CANARY: no")

        monkeypatch.setattr(Blob, "upload_from_file", upload)
        with pytest.raises(BflStorageError, match=error) as failure:
            bfl.land(target)
        assert len(calls) == tries
        assert "CANARY" not in str(failure.value)
