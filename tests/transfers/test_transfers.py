# SPDX-License-Identifier: Apache-2.0
"""The transfers: a submitted generation's result in S3, in GCS and in a local directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_bfl.exceptions import (
    BflAmbiguousSubmitError,
    BflConfigError,
    BflContentModeratedError,
    BflObjectExistsError,
    BflResultExpiredError,
    BflTimeoutError,
    BflUntrustedUrlError,
)
from airflow_provider_bfl.transfers.bfl_to_gcs import BflToGCSOperator
from airflow_provider_bfl.transfers.bfl_to_object_storage import BflToObjectStorageOperator
from airflow_provider_bfl.transfers.bfl_to_s3 import BflToS3Operator
from tests.airflow_fixtures import TaskRun, World
from tests.storage_servers import GCSServer, S3Server


@dataclass(frozen=True)
class Stored:
    """An object as its store has it."""

    body: bytes
    content_type: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """A store, the transfer into it, and how to look what arrived."""

    bfl: World
    operator_class: type
    root: str
    arguments: Callable[[str], dict[str, Any]]
    read: Callable[[str], Stored]
    write: Callable[[str, bytes], None]

    def transfer(self, submitted: Mapping[str, Any], key: str = "out/", **more: Any) -> TaskRun:
        arguments = {"polling_url": submitted["polling_url"], "poll_interval": 0.02, **self.arguments(key), **more}
        run: TaskRun = self.bfl.run(self.operator_class, **arguments)
        return run

    def read_uri(self, uri: str) -> Stored:
        assert uri.startswith(self.root)
        return self.read(uri.removeprefix(self.root))


def place_in_s3(bfl: World, server: S3Server) -> Place:
    bucket = server.new_bucket()

    def read(key: str) -> Stored:
        answer = server.client.get_object(Bucket=bucket, Key=key)
        return Stored(answer["Body"].read(), answer["ContentType"], answer["Metadata"])

    return Place(
        bfl,
        BflToS3Operator,
        f"s3://{bucket}/",
        lambda key: {"s3_bucket": bucket, "s3_key": key, "aws_conn_id": server.conn_id},
        read,
        lambda key, body: server.client.put_object(Bucket=bucket, Key=key, Body=body),
    )


def place_in_gcs(bfl: World, server: GCSServer) -> Place:
    name = server.new_bucket()
    bucket = server.client().bucket(name)

    def read(key: str) -> Stored:
        blob = bucket.get_blob(key)
        return Stored(blob.download_as_bytes(), blob.content_type, blob.metadata or {})

    return Place(
        bfl,
        BflToGCSOperator,
        f"gs://{name}/",
        lambda key: {"bucket_name": name, "object_name": key, "gcp_conn_id": server.conn_id},
        read,
        lambda key, body: bucket.blob(key).upload_from_string(body),
    )


def place_on_disk(bfl: World) -> Place:
    def write(key: str, body: bytes) -> None:
        path = bfl.root / "landed" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    return Place(
        bfl,
        BflToObjectStorageOperator,
        bfl.destination,
        lambda key: {"destination": f"{bfl.destination}{key}"},
        lambda key: Stored((bfl.root / "landed" / key).read_bytes(), None, {}),
        write,
    )


@pytest.fixture(params=["s3", "gcs", "file"])
def place(request: pytest.FixtureRequest, bfl: World) -> Place:
    """Each store in turn."""
    if request.param == "s3":
        return place_in_s3(bfl, request.getfixturevalue("s3_server"))
    if request.param == "gcs":
        return place_in_gcs(bfl, request.getfixturevalue("gcs_server"))
    return place_on_disk(bfl)


@pytest.fixture
def on_disk(bfl: World) -> Place:
    """The quickest store, where which one it is does not matter."""
    return place_on_disk(bfl)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look in the worker, two seconds otherwise, is over soon."""
    monkeypatch.setattr("airflow_provider_bfl.operators.waiting.FIRST_LOOK_SECONDS", 0.1)
    monkeypatch.setattr("airflow_provider_bfl.operators.waiting._RESUME_WAIT_SECONDS", 0.1)


class TestTheResult:
    def test_is_stored_whole_beside_its_sidecar(self, bfl: World, place: Place, deferrable: bool) -> None:
        submitted = bfl.submit()

        result = place.transfer(submitted, generation=submitted, deferrable=deferrable).attempt()

        stored = place.read_uri(result["uri"])
        (task,) = bfl.simulator.ledger.tasks
        assert hashlib.sha256(stored.body).hexdigest() == result["sha256"]
        assert stored.body.startswith(b"\xff\xd8\xff")
        assert stored.content_type in {"image/jpeg", None}
        assert (result["id"], result["model"], result["seed"], result["cost"]) == (
            task.id,
            "flux-2-pro",
            task.seed,
            submitted["cost"],
        )
        assert result["uri"].startswith(f"{place.root}out/a_dag/")
        sidecar = json.loads(place.read_uri(result["sidecar_uri"]).body)
        assert (sidecar["id"], sidecar["sha256"], sidecar["region"]) == (task.id, result["sha256"], "global")
        assert len(json.dumps(result)) < 4096

    def test_takes_the_very_name_it_is_given(self, bfl: World, place: Place) -> None:
        result = place.transfer(bfl.submit(), "cats/one.jpg").attempt()

        assert result["uri"] == f"{place.root}cats/one.jpg"
        assert place.read("cats/one.jpg").body.startswith(b"\xff\xd8\xff")

    def test_is_known_by_its_id_alone_where_the_submit_result_is_not_given(self, bfl: World, on_disk: Place) -> None:
        submitted = bfl.submit()

        result = on_disk.transfer(submitted).attempt()

        assert (result["id"], result["model"], result["submitted_at"]) == (submitted["id"], None, None)

    @pytest.mark.parametrize("known", [True, False])
    def test_says_when_it_was_possibly_billed_twice(self, bfl: World, on_disk: Place, known: bool) -> None:
        bfl.simulator.fault("submit", accept=True, drop=True)
        submit = bfl.generation(wait_for_completion=False, destination=None)
        with pytest.raises(BflAmbiguousSubmitError):
            submit.attempt()
        submitted = submit.attempt()
        assert submitted["possibly_billed_twice"] is True

        result = on_disk.transfer(submitted, generation=submitted if known else None).attempt()

        assert result["possibly_billed_twice"] is known
        assert json.loads(on_disk.read_uri(result["sidecar_uri"]).body)["possibly_billed_twice"] is known

    def test_carries_metadata_and_upload_options_to_s3(self, bfl: World, s3_server: S3Server) -> None:
        place = place_in_s3(bfl, s3_server)
        extra_args = {"CacheControl": "max-age=60", "ServerSideEncryption": "AES256", "Tagging": "team=art"}

        result = place.transfer(bfl.submit(), "cat.jpg", metadata={"team": "art"}, extra_args=extra_args).attempt()

        bucket = place.arguments("")["s3_bucket"]
        head = s3_server.client.head_object(Bucket=bucket, Key="cat.jpg")
        assert (head["CacheControl"], head["ServerSideEncryption"]) == ("max-age=60", "AES256")
        assert head["ContentType"] == "image/jpeg"
        assert (
            head["Metadata"] | {"team": "art", "bfl-id": result["id"], "sha256": result["sha256"]} == head["Metadata"]
        )
        tags = s3_server.client.get_object_tagging(Bucket=bucket, Key="cat.jpg")["TagSet"]
        assert tags == [{"Key": "team", "Value": "art"}]

    def test_carries_metadata_and_cache_control_to_gcs(self, bfl: World, gcs_server: GCSServer) -> None:
        place = place_in_gcs(bfl, gcs_server)

        result = place.transfer(bfl.submit(), "cat.jpg", metadata={"team": "art"}, cache_control="max-age=60").attempt()

        blob = gcs_server.client().bucket(place.arguments("")["bucket_name"]).get_blob("cat.jpg")
        assert (blob.cache_control, blob.content_type) == ("max-age=60", "image/jpeg")
        assert blob.metadata | {"team": "art", "bfl-id": result["id"]} == blob.metadata


class TestAPendingGeneration:
    def test_is_waited_for(self, bfl: World, place: Place, deferrable: bool) -> None:
        bfl.simulator.fault("task", latency_seconds=0.5)
        run = place.transfer(bfl.submit(), deferrable=deferrable)

        assert run.attempt()["status"] == "Ready"
        assert bool(run.deferrals) is deferrable

    def test_that_never_ends_is_an_error(self, bfl: World, on_disk: Place, deferrable: bool) -> None:
        bfl.simulator.fault("task", stuck=True)

        with pytest.raises(BflTimeoutError):
            on_disk.transfer(bfl.submit(), deferrable=deferrable, timeout=0.3).attempt()

        assert not (bfl.root / "landed").exists()

    def test_is_found_again_by_a_resume_that_lost_everything(self, bfl: World, on_disk: Place) -> None:
        assert on_disk.transfer(bfl.submit()).resume("execute_complete")["status"] == "Ready"

    def test_ends_moderated(self, bfl: World, on_disk: Place, deferrable: bool) -> None:
        bfl.simulator.fault("task", final_status="Content Moderated", latency_seconds=0.3)
        submitted = bfl.submit()

        with pytest.raises(BflContentModeratedError):
            on_disk.transfer(submitted, deferrable=deferrable).attempt()
        with pytest.raises(AirflowSkipException):
            on_disk.transfer(submitted, deferrable=deferrable, on_moderated="skip").attempt()


class TestDoingItAgain:
    @pytest.mark.parametrize("if_exists", ["overwrite", "skip", "error"])
    @pytest.mark.parametrize("key", ["out/", "cat.jpg"])
    def test_is_a_success_with_the_same_object(self, bfl: World, place: Place, if_exists: str, key: str) -> None:
        run = place.transfer(bfl.submit(), key, if_exists=if_exists)

        first, second = run.attempt(), run.attempt()

        assert (first["uri"], first["sha256"]) == (second["uri"], second["sha256"])
        assert bfl.posts_received == 1


class TestAnObjectOfThatName:
    def test_is_replaced(self, bfl: World, place: Place) -> None:
        place.write("cat.jpg", b"another")

        result = place.transfer(bfl.submit(), "cat.jpg", if_exists="overwrite").attempt()

        assert len(place.read("cat.jpg").body) == result["size"] > 7

    def test_is_kept(self, bfl: World, place: Place) -> None:
        place.write("cat.jpg", b"another")

        result = place.transfer(bfl.submit(), "cat.jpg", if_exists="skip").attempt()

        assert (result["uri"], result["size"]) == (f"{place.root}cat.jpg", 7)
        assert place.read("cat.jpg").body == b"another"

    def test_is_an_error_and_stays(self, bfl: World, place: Place) -> None:
        place.write("cat.jpg", b"another")

        with pytest.raises(BflObjectExistsError, match="generated and billed"):
            place.transfer(bfl.submit(), "cat.jpg", if_exists="error").attempt()

        assert place.read("cat.jpg").body == b"another"


class TestAGenerationOfAnother:
    def test_is_refused_before_anything_is_asked(self, bfl: World, place: Place) -> None:
        one, other = bfl.submit(), bfl.submit()
        asked = len(bfl.simulator.ledger.requests)

        with pytest.raises(BflConfigError, match=r"another generation\. Nothing was landed"):
            place.transfer(one, generation=other).attempt()

        assert len(bfl.simulator.ledger.requests) == asked

    def test_that_a_template_made_text_is_refused_with_the_cure(self, bfl: World, on_disk: Place) -> None:
        submitted = bfl.submit()

        with pytest.raises(BflConfigError, match="render_template_as_native_obj"):
            on_disk.transfer(submitted, generation=str(submitted)).attempt()


class TestAUrlThatExpired:
    def test_is_asked_for_again(self, bfl: World, on_disk: Place) -> None:
        submitted = bfl.submit()
        bfl.simulator.fault("delivery", expired=True)
        bfl.simulator.settings(fresh_urls=True)

        assert on_disk.transfer(submitted).attempt()["status"] == "Ready"
        assert [row.status for row in bfl.simulator.ledger.of_role("delivery")] == [403, 200]

    def test_really_by_the_clock_is_an_error_where_bfl_gives_no_fresh_one(
        self, bfl: World, on_disk: Place, deferrable: bool
    ) -> None:
        submitted = bfl.submit()
        bfl.simulator.advance(3600)

        with pytest.raises(BflResultExpiredError, match="asks BFL again at no cost"):
            on_disk.transfer(submitted, deferrable=deferrable).attempt()

        assert not (bfl.root / "landed").exists()

    def test_really_by_the_clock_is_no_matter_where_bfl_gives_a_fresh_one(self, bfl: World, on_disk: Place) -> None:
        bfl.simulator.settings(fresh_urls=True)
        submitted = bfl.submit()
        bfl.simulator.advance(3600)

        assert on_disk.transfer(submitted).attempt()["status"] == "Ready"

    def test_during_the_deferral_does_no_harm(self, bfl: World, on_disk: Place) -> None:
        bfl.simulator.settings(fresh_urls=True, url_lifetime_seconds=30)
        bfl.simulator.fault("task", stuck=True)
        submitted = bfl.submit()
        run = on_disk.transfer(submitted, deferrable=True)

        def resumed_late(deferral: Any) -> None:
            bfl.simulator.finish(submitted["id"])
            bfl.simulator.advance(300)

        run.on_deferral = resumed_late

        assert Path(bfl.path_of(run.attempt())).exists()


class TestWhereNothingCanBeStored:
    @pytest.mark.parametrize(
        ("operator_class", "arguments"),
        [
            (BflToS3Operator, {"s3_bucket": "", "s3_key": "cat.jpg"}),
            (BflToS3Operator, {"s3_bucket": "bucket", "s3_key": "a/../cat.jpg"}),
            (BflToGCSOperator, {"bucket_name": "bucket", "object_name": "cat.jpg", "gcp_conn_id": "nowhere"}),
            (BflToGCSOperator, {"bucket_name": "bucket", "object_name": "/cat.jpg"}),
            (BflToObjectStorageOperator, {"destination": "/tmp/cat.jpg"}),
        ],
    )
    def test_nothing_is_asked(self, bfl: World, operator_class: type, arguments: dict[str, Any]) -> None:
        run = bfl.run(operator_class, polling_url="https://api.bfl.ai/v1/get_result?id=7", **arguments)

        with pytest.raises(BflConfigError, match="Nothing can be stored"):
            run.attempt()

        assert bfl.simulator.ledger.requests == ()


class TestThePollingUrl:
    @pytest.mark.parametrize("url", ["{canary}/v1/get_result?id=7", "https://evil.example/x", "None", None])
    def test_of_a_stranger_gets_nothing(self, bfl: World, on_disk: Place, deferrable: bool, url: Any) -> None:
        polling_url = url.format(canary=bfl.simulator.canary_url) if url else url
        run = on_disk.transfer({"polling_url": polling_url}, deferrable=deferrable)

        with pytest.raises(BflUntrustedUrlError):
            run.attempt()

        assert bfl.simulator.ledger.requests == ()


class TestTemplates:
    @pytest.mark.parametrize(
        ("operator_class", "names"),
        [
            (BflToS3Operator, {"s3_bucket", "s3_key", "aws_conn_id", "extra_args", "metadata"}),
            (BflToGCSOperator, {"bucket_name", "object_name", "gcp_conn_id", "metadata", "cache_control"}),
            (BflToObjectStorageOperator, {"destination", "storage_conn_id"}),
        ],
    )
    def test_are_polling_url_generation_and_the_place(self, operator_class: Any, names: set[str]) -> None:
        assert set(operator_class.template_fields) == names | {"polling_url", "generation", "bfl_conn_id"}
