# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bfl.exceptions import BflObjectExistsError, BflStorageError
from airflow_provider_bfl.landing import Target, find_landed, open_target, s3_target

if TYPE_CHECKING:
    from tests.landing.conftest import Bfl
    from tests.storage_servers import S3Server


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    return s3_server.new_bucket()


@pytest.fixture
def target(s3_server: S3Server, bucket: str) -> Target:
    return s3_target(bucket, "art/fox.png", aws_conn_id=s3_server.conn_id)


def stored(s3_server: S3Server, bucket: str, key: str = "art/fox.png") -> bytes:
    body: bytes = s3_server.client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def uploads(s3_server: S3Server, bucket: str) -> list[Any]:
    found: list[Any] = s3_server.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return found


def puts_of(key: str) -> Callable[[dict[str, Any]], bool]:
    return lambda environ: environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"].endswith(key)


def looks(environ: dict[str, Any]) -> bool:
    return str(environ["REQUEST_METHOD"]) == "HEAD"


def parts(environ: dict[str, Any]) -> bool:
    return environ["REQUEST_METHOD"] == "PUT" and str(environ["QUERY_STRING"]).endswith("partNumber=2")


def completions(environ: dict[str, Any]) -> bool:
    return environ["REQUEST_METHOD"] == "POST" and str(environ["QUERY_STRING"]).startswith("uploadId")


class TestAnObjectInS3:
    def test_has_the_bytes_and_a_sidecar(
        self, bfl: Bfl, bodies: dict[str, bytes], s3_server: S3Server, bucket: str, target: Target
    ) -> None:
        landed = bfl.land(target)
        assert landed.uri == f"s3://{bucket}/art/fox.png"
        assert stored(s3_server, bucket) == bodies["png"]
        sidecar = json.loads(stored(s3_server, bucket, "art/fox.png.json"))
        assert sidecar["sha256"] == landed.sha256
        assert s3_server.keys(bucket) == ["art/fox.png", "art/fox.png.json"]

    @pytest.mark.parametrize("size", ["small", "large"])
    def test_says_what_it_is(
        self, bfl: Bfl, large_png: bytes, s3_server: S3Server, bucket: str, target: Target, size: str
    ) -> None:
        bfl.deliveries = [large_png] if size == "large" else bfl.deliveries
        landed = bfl.land(target)
        head = s3_server.client.head_object(Bucket=bucket, Key="art/fox.png")
        assert head["ContentType"] == "image/png"
        assert head["Metadata"] == {"bfl-id": "gen-1", "bfl-model": "flux-2-pro", "sha256": landed.sha256}
        sidecar = s3_server.client.head_object(Bucket=bucket, Key="art/fox.png.json")
        assert sidecar["ContentType"] == "application/json"

    @pytest.mark.parametrize("size", ["small", "large"])
    def test_gets_the_users_options_and_metadata(
        self, bfl: Bfl, large_png: bytes, s3_server: S3Server, bucket: str, size: str
    ) -> None:
        bfl.deliveries = [large_png] if size == "large" else bfl.deliveries
        target = s3_target(
            bucket,
            "art/fox.png",
            aws_conn_id=s3_server.conn_id,
            extra_args={
                "ServerSideEncryption": "AES256",
                "CacheControl": "max-age=60",
                "ContentDisposition": "attachment",
                "Tagging": "team=art",
                "Metadata": {"campaign": "spring", "sha256": "forged"},
            },
            metadata={"owner": "Zoë\n"},
        )
        landed = bfl.land(target)
        head = s3_server.client.head_object(Bucket=bucket, Key="art/fox.png")
        assert head["ServerSideEncryption"] == "AES256"
        assert head["CacheControl"] == "max-age=60"
        assert head["ContentDisposition"] == "attachment"
        assert head["Metadata"]["campaign"] == "spring"
        assert head["Metadata"]["owner"] == "Zo\\xeb\\n"
        assert head["Metadata"]["sha256"] == landed.sha256
        tags = s3_server.client.get_object_tagging(Bucket=bucket, Key="art/fox.png")["TagSet"]
        assert tags == [{"Key": "team", "Value": "art"}]
        sidecar = s3_server.client.head_object(Bucket=bucket, Key="art/fox.png.json")
        assert sidecar["ServerSideEncryption"] == "AES256"
        assert "ContentDisposition" not in sidecar
        assert "campaign" not in sidecar["Metadata"]

    def test_that_is_large_comes_in_parts(
        self, bfl: Bfl, large_png: bytes, s3_server: S3Server, bucket: str, target: Target
    ) -> None:
        bfl.deliveries = [large_png]
        bfl.land(target)
        assert hashlib.sha256(stored(s3_server, bucket)).digest() == hashlib.sha256(large_png).digest()
        assert sum("partNumber" in query for _, _, query in s3_server.door.requests) == 3
        assert uploads(s3_server, bucket) == []

    def test_that_is_large_announces_the_checksum_of_its_parts(
        self, bfl: Bfl, large_png: bytes, s3_server: S3Server, target: Target
    ) -> None:
        """S3 refuses parts with a checksum that was not announced; the server of these tests does not."""
        bfl.deliveries = [large_png]
        inner, announced, completed = s3_server.door.app, [], []

        def listen(environ: dict[str, Any], start_response: Any) -> Any:
            if environ["REQUEST_METHOD"] == "POST" and environ["QUERY_STRING"].startswith("uploads"):
                announced.append(environ.get("HTTP_X_AMZ_CHECKSUM_ALGORITHM"))
            if completions(environ):
                body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
                environ["wsgi.input"] = BytesIO(body)
                completed.append(body.count(b"<ChecksumCRC32>"))
            return inner(environ, start_response)

        s3_server.door.app = listen
        try:
            bfl.land(target)
        finally:
            s3_server.door.app = inner
        assert (announced, completed) == (["CRC32"], [3])

    def test_is_found_again(self, bfl: Bfl, s3_server: S3Server, target: Target) -> None:
        assert find_landed(target) is None
        landed = bfl.land(target)
        assert find_landed(target) == landed

    def test_without_a_sidecar_is_described_by_s3(self, s3_server: S3Server, bucket: str, target: Target) -> None:
        s3_server.client.put_object(Bucket=bucket, Key="art/fox.png", Body=b"12345", ContentType="image/gif")
        landed = find_landed(target)
        assert landed is not None
        assert (landed.size, landed.content_type, landed.sha256, landed.id) == (5, "image/gif", None, None)

    def test_by_its_uri(self, bfl: Bfl, s3_server: S3Server, bucket: str) -> None:
        target = open_target(f"s3://{bucket}/art/", storage_conn_id=s3_server.conn_id)
        landed = bfl.land(target)
        assert landed.uri.startswith(f"s3://{bucket}/art/d/manual__2026-01-01T00_00_00_00_00-")
        assert find_landed(target, uri=landed.uri) == landed


class TestAnUploadThatFails:
    def test_twice_then_works(
        self, bfl: Bfl, bodies: dict[str, bytes], s3_server: S3Server, bucket: str, target: Target
    ) -> None:
        s3_server.door.fail(2, "503 Service Unavailable", "SlowDown", when=puts_of("/fox.png"))
        bfl.land(target)
        assert stored(s3_server, bucket) == bodies["png"]
        assert len(bfl.slept) == 2
        assert len(bfl.downloads) == 1

    def test_for_good_leaves_nothing(self, bfl: Bfl, s3_server: S3Server, bucket: str, target: Target) -> None:
        s3_server.door.fail(99, "500 Internal Server Error", "InternalError", when=puts_of("/fox.png"))
        with pytest.raises(BflStorageError, match=r"gen-1.*billed.*art/fox\.png.*InternalError.*without generating"):
            bfl.land(target)
        assert s3_server.keys(bucket) == []

    def test_in_the_middle_is_repeated_from_the_start(
        self, bfl: Bfl, large_png: bytes, s3_server: S3Server, bucket: str, target: Target
    ) -> None:
        bfl.deliveries = [large_png]
        s3_server.door.fail(2, "500 Internal Server Error", "InternalError", when=parts)
        bfl.land(target)
        assert stored(s3_server, bucket) == large_png
        assert uploads(s3_server, bucket) == []

    @pytest.mark.parametrize("when", [parts, completions])
    def test_in_the_middle_for_good_leaves_no_multipart_upload(
        self, bfl: Bfl, large_png: bytes, s3_server: S3Server, bucket: str, target: Target, when: Any
    ) -> None:
        bfl.deliveries = [large_png]
        s3_server.door.fail(99, "500 Internal Server Error", "InternalError", when=when)
        with pytest.raises(BflStorageError):
            bfl.land(target)
        assert uploads(s3_server, bucket) == []
        assert s3_server.keys(bucket) == []

    def test_at_a_completion_whose_first_answer_was_lost_is_repeated(
        self, bfl: Bfl, large_png: bytes, s3_server: S3Server, bucket: str, target: Target
    ) -> None:
        bfl.deliveries = [large_png]
        s3_server.door.fail(1, "404 Not Found", "NoSuchUpload", when=completions)
        bfl.land(target)
        assert stored(s3_server, bucket) == large_png

    def test_at_the_sidecar_is_mended_by_a_retry_that_stores_no_second_object(
        self, bfl: Bfl, s3_server: S3Server, bucket: str, target: Target
    ) -> None:
        s3_server.door.fail(4, "500 Internal Server Error", "InternalError", when=puts_of(".json"))
        with pytest.raises(BflStorageError, match=r"fox\.png\.json"):
            bfl.land(target, if_exists="error")
        bfl.land(target, if_exists="error")
        assert s3_server.keys(bucket) == ["art/fox.png", "art/fox.png.json"]
        assert sum(method == "PUT" and path.endswith("/fox.png") for method, path, _ in s3_server.door.requests) == 1

    @pytest.mark.parametrize(
        ("status", "code", "advice"),
        [
            ("403 Forbidden", "AccessDenied", "s3:PutObject"),
            ("404 Not Found", "NoSuchBucket", "create the bucket"),
            ("403 Forbidden", "InvalidAccessKeyId", "access key"),
        ],
    )
    def test_for_lack_of_rights_is_not_repeated_and_says_what_to_fix(
        self, bfl: Bfl, s3_server: S3Server, target: Target, status: str, code: str, advice: str
    ) -> None:
        s3_server.door.fail(99, status, code, when=puts_of("/fox.png"))
        with pytest.raises(BflStorageError, match=f"{code}.*{advice}"):
            bfl.land(target)
        assert bfl.slept == []

    def test_at_a_bucket_that_is_not_there(self, bfl: Bfl, s3_server: S3Server) -> None:
        target = s3_target("no-such-bucket", "k.png", aws_conn_id=s3_server.conn_id)
        with pytest.raises(BflStorageError, match=r"s3://no-such-bucket/.*create the bucket"):
            bfl.land(target)
        assert bfl.slept == []

    def test_for_an_option_boto3_does_not_know(self, bfl: Bfl, s3_server: S3Server, bucket: str) -> None:
        target = s3_target(bucket, "k.png", aws_conn_id=s3_server.conn_id, extra_args={"Colour": "red"})
        with pytest.raises(BflStorageError, match="Colour"):
            bfl.land(target)
        assert bfl.slept == []

    def test_because_the_server_is_gone(self, bfl: Bfl, monkeypatch: pytest.MonkeyPatch, unused_url: str) -> None:
        extra = {"endpoint_url": unused_url, "region_name": "us-east-1"}
        extra["config_kwargs"] = {"retries": {"total_max_attempts": 1}}  # type: ignore[assignment]
        connection = {"conn_type": "aws", "login": "AK", "password": "SK", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_GONE", json.dumps(connection))
        with pytest.raises(BflStorageError, match="EndpointConnectionError"):
            bfl.land(s3_target("bucket", "k.png", aws_conn_id="gone"))
        assert len(bfl.slept) == 3


class TestANameThatIsTakenInS3:
    @pytest.fixture
    def _taken(self, bfl: Bfl, bodies: dict[str, bytes], target: Target) -> None:
        bfl.other(bodies["webp"]).land(target)

    @pytest.mark.usefixtures("_taken")
    def test_overwrite(
        self, bfl: Bfl, bodies: dict[str, bytes], s3_server: S3Server, bucket: str, target: Target
    ) -> None:
        bfl.land(target, if_exists="overwrite")
        assert stored(s3_server, bucket) == bodies["png"]

    @pytest.mark.usefixtures("_taken")
    def test_skip(self, bfl: Bfl, bodies: dict[str, bytes], s3_server: S3Server, bucket: str, target: Target) -> None:
        assert bfl.land(target, if_exists="skip").id == "gen-2"
        assert bfl.downloads == []
        assert stored(s3_server, bucket) == bodies["webp"]

    @pytest.mark.usefixtures("_taken")
    def test_error(self, bfl: Bfl, bodies: dict[str, bytes], s3_server: S3Server, bucket: str, target: Target) -> None:
        with pytest.raises(BflObjectExistsError):
            bfl.land(target, if_exists="error")
        assert stored(s3_server, bucket) == bodies["webp"]

    @pytest.mark.parametrize("size", ["small", "large"])
    def test_the_same_bytes_are_a_success_and_not_read_back(
        self, bfl: Bfl, large_png: bytes, s3_server: S3Server, target: Target, size: str
    ) -> None:
        bfl.deliveries = [large_png] if size == "large" else bfl.deliveries
        first = bfl.land(target, if_exists="error")
        s3_server.door.clear()
        assert bfl.land(target, if_exists="error") == first
        assert not [path for method, path, _ in s3_server.door.requests if method == "GET" and path.endswith("png")]

    def test_the_same_bytes_that_somebody_else_stored_are_compared(
        self, bfl: Bfl, large_png: bytes, s3_server: S3Server, bucket: str, target: Target
    ) -> None:
        bfl.deliveries = [large_png]
        s3_server.client.put_object(Bucket=bucket, Key="art/fox.png", Body=large_png)
        bfl.land(target, if_exists="error")
        s3_server.client.put_object(Bucket=bucket, Key="art/fox.png", Body=large_png[:-1] + b"x")
        with pytest.raises(BflObjectExistsError):
            bfl.land(target, if_exists="error")

    @pytest.mark.parametrize("size", ["small", "large"])
    def test_an_upload_whose_answer_was_lost_is_a_success(
        self, bfl: Bfl, large_png: bytes, s3_server: S3Server, bucket: str, target: Target, size: str
    ) -> None:
        body = large_png if size == "large" else bfl.deliveries[0]
        bfl.deliveries = [body]
        final = completions if size == "large" else puts_of("/fox.png")
        s3_server.door.lose_answer(when=final)
        bfl.land(target, if_exists="error")
        assert len(bfl.slept) == 1
        assert stored(s3_server, bucket) == body

    @pytest.mark.parametrize("size", ["small", "large"])
    @pytest.mark.parametrize("if_exists", ["skip", "error"])
    def test_two_tasks_never_overwrite_each_other(
        self, bfl: Bfl, large_png: bytes, s3_server: S3Server, bucket: str, target: Target, size: str, if_exists: Any
    ) -> None:
        """Both have seen the name free before either stores."""
        other = bfl.other(large_png[:-20] + b"x" * 8 + large_png[-12:] if size == "large" else b"")
        bfl.deliveries = [large_png] if size == "large" else bfl.deliveries
        if size == "small":
            assert isinstance(bfl.deliveries[0], bytes)
            other.deliveries = [bfl.deliveries[0] + b"\0"]
        inner, meeting, first_looks = s3_server.door.app, threading.Barrier(2, timeout=30), [1, 2]

        def meet(environ: dict[str, Any], start_response: Any) -> Any:
            answer = inner(environ, start_response)
            if first_looks and environ["REQUEST_METHOD"] == "HEAD" and environ["PATH_INFO"].endswith("/fox.png"):
                first_looks.pop()
                meeting.wait()
            return answer

        outcomes: dict[str, Any] = {}

        def run(each: Bfl) -> None:
            try:
                outcomes[each.generation.id] = each.land(target, if_exists=if_exists)
            except BflObjectExistsError as error:
                outcomes[each.generation.id] = error

        s3_server.door.app = meet
        try:
            threads = [threading.Thread(target=run, args=(each,)) for each in (bfl, other)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        finally:
            s3_server.door.app = inner
        head = s3_server.client.head_object(Bucket=bucket, Key="art/fox.png")
        winner = head["Metadata"]["bfl-id"]
        loser = outcomes[{"gen-1": "gen-2", "gen-2": "gen-1"}[winner]]
        assert outcomes[winner].id == winner
        if if_exists == "error":
            assert isinstance(loser, BflObjectExistsError)
        else:
            assert loser.sha256 == outcomes[winner].sha256
        assert json.loads(stored(s3_server, bucket, "art/fox.png.json"))["id"] == winner

    def test_a_store_without_conditional_writes_is_used_all_the_same(
        self, bfl: Bfl, bodies: dict[str, bytes], s3_server: S3Server, bucket: str, target: Target
    ) -> None:
        s3_server.door.fail(
            99,
            "501 Not Implemented",
            "NotImplemented",
            when=lambda environ: environ.get("HTTP_IF_NONE_MATCH") == "*",
        )
        bfl.land(target, if_exists="error")
        assert stored(s3_server, bucket) == bodies["png"]
        assert bfl.slept == []


class TestAStoreThatCannotBeAsked:
    def test_is_not_taken_for_an_empty_one(self, s3_server: S3Server, target: Target) -> None:
        s3_server.door.fail(99, "403 Forbidden", "AccessDenied", when=looks)
        with pytest.raises(BflStorageError, match="s3:ListBucket"):
            find_landed(target, sleep=lambda seconds: None)

    def test_for_a_moment_is_asked_again(self, bfl: Bfl, s3_server: S3Server, target: Target) -> None:
        landed = bfl.land(target)
        s3_server.door.fail(2, "503 Slow", "SlowDown", when=looks)
        assert find_landed(target, sleep=bfl.sleep) == landed


class TestABodyThatIsCut:
    @pytest.mark.parametrize("output_format", ["png", "jpeg", "webp", "mp4"])
    def test_never_reaches_s3(
        self, bfl: Bfl, bodies: dict[str, bytes], s3_server: S3Server, bucket: str, target: Target, output_format: str
    ) -> None:
        bfl.deliveries = [bodies[output_format][:-9]]
        with pytest.raises(Exception, match="could not be had whole"):
            bfl.land(target, output_format=output_format)
        assert s3_server.door.requests[1:] == []


@pytest.fixture
def unused_url() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
