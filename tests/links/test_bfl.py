# SPDX-License-Identifier: Apache-2.0
"""The buttons on a task instance."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_bfl.get_provider_info import get_provider_info
from airflow_provider_bfl.landing import gcs_target, open_target, s3_target
from airflow_provider_bfl.links.bfl import OBJECT_LINK_KEY, BflDashboardLink, BflStoredObjectLink
from airflow_provider_bfl.operators.generation import BflGenerationOperator
from airflow_provider_bfl.transfers.bfl_to_gcs import BflToGCSOperator
from airflow_provider_bfl.transfers.bfl_to_object_storage import BflToObjectStorageOperator
from airflow_provider_bfl.transfers.bfl_to_s3 import BflToS3Operator
from tests.airflow_fixtures import World
from tests.storage_servers import GCSServer, S3Server

OBJECT = "https://console.aws.amazon.com/s3/object/cats?prefix=a/b%20c.png"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set the extra of the connection ``aws_default``."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)

    def set_extra(**extra: Any) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": extra}))

    return set_extra


class TestThePageOfAnS3Object:
    def test_is_the_objects(self, aws: Any) -> None:
        aws()
        assert s3_target("cats", "a/", aws_conn_id="aws_default").console_url("s3://cats/a/b c.png") == OBJECT

    def test_is_the_directorys_before_there_is_an_object(self, aws: Any) -> None:
        aws()
        place = s3_target("cats", "a/", aws_conn_id="aws_default").console_url()
        assert place == "https://console.aws.amazon.com/s3/buckets/cats?prefix=a/"

    @pytest.mark.parametrize(
        ("region", "domain"),
        [("eu-central-1", "aws.amazon.com"), ("cn-north-1", "amazonaws.cn"), ("us-gov-west-1", "amazonaws-us-gov.com")],
    )
    def test_is_that_of_the_partition(self, aws: Any, region: str, domain: str) -> None:
        aws(region_name=region)
        page = s3_target("cats", "a.png", aws_conn_id="aws_default").console_url()
        assert page == f"https://console.{domain}/s3/object/cats?prefix=a.png"

    @pytest.mark.parametrize(
        "extra", [{"endpoint_url": "https://minio"}, {"service_config": {"s3": {"endpoint_url": "https://minio"}}}]
    )
    def test_is_none_where_the_store_is_not_amazons(self, aws: Any, extra: dict[str, Any]) -> None:
        aws(**extra)
        assert s3_target("cats", "a.png", aws_conn_id="aws_default").console_url() is None

    def test_is_none_where_the_environment_names_another_store(self, aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        aws()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://minio")
        assert s3_target("cats", "a.png", aws_conn_id="aws_default").console_url() is None

    def test_needs_no_connection(self) -> None:
        page = s3_target("cats", "a.png", aws_conn_id=None).console_url()
        assert page == "https://console.aws.amazon.com/s3/object/cats?prefix=a.png"


class TestThePageOfAGoogleObject:
    def test_is_the_objects_or_the_directorys(self, gcs_server: GCSServer) -> None:
        target = gcs_target("cats", "a/", gcp_conn_id=gcs_server.conn_id)
        base = "https://console.cloud.google.com/storage/browser"
        assert target.console_url("gs://cats/a/b c.png") == f"{base}/_details/cats/a/b%20c.png"
        assert target.console_url() == f"{base}/cats/a/"


class TestAFile:
    def test_has_no_page(self) -> None:
        assert open_target("file:///tmp/a.png").console_url() is None


class TestTheStoredObjectLink:
    @pytest.fixture
    def xcom(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """What Airflow's XCom holds of the task instance."""
        from airflow.providers.common.compat.sdk import XCom

        values: dict[str, Any] = {}
        monkeypatch.setattr(XCom, "get_value", lambda *, ti_key, key: values.get(key))
        return values

    def link(self, operator: Any = None) -> str:
        return BflStoredObjectLink().get_link(operator, ti_key=None)  # type: ignore[arg-type]

    def test_is_what_the_task_pushed(self, xcom: dict[str, Any]) -> None:
        xcom[OBJECT_LINK_KEY] = OBJECT
        assert self.link() == OBJECT

    def test_is_what_the_operator_that_has_just_run_knows(self, xcom: dict[str, Any]) -> None:
        xcom[OBJECT_LINK_KEY] = "https://console.aws.amazon.com/old"
        operator = BflGenerationOperator(task_id="generate", prompt="a fox")
        assert self.link(operator) == ""
        operator.object_link = OBJECT
        assert self.link(operator) == OBJECT

    def test_is_empty_where_nothing_was_pushed(self, xcom: dict[str, Any]) -> None:
        assert self.link() == ""

    @pytest.mark.parametrize(
        "value",
        ["javascript:alert(1)", "https://evil.example/", "https://console.amazonaws.evil.example/", 7, {"url": OBJECT}],
    )
    def test_is_empty_where_an_xcom_holds_another_address(self, xcom: dict[str, Any], value: Any) -> None:
        xcom[OBJECT_LINK_KEY] = value
        assert self.link() == ""


class TestATask:
    @pytest.fixture
    def bucket(self, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
        """A bucket of a store that says it is Amazon's."""
        monkeypatch.setattr("airflow_provider_bfl.landing.s3._console_domain", lambda conn_id: "aws.amazon.com")
        return s3_server.new_bucket()

    def test_has_the_page_of_the_place_while_it_is_deferred_and_of_the_object_at_its_end(
        self, bfl: World, bucket: str, s3_server: S3Server
    ) -> None:
        run = bfl.generation(deferrable=True, destination=f"s3://{s3_server.conn_id}@{bucket}/out/")
        meanwhile: list[Any] = []
        run.on_deferral = lambda deferral: meanwhile.append(run.xcom[OBJECT_LINK_KEY])

        result = run.attempt()

        console = "https://console.aws.amazon.com/s3"
        assert meanwhile == [f"{console}/buckets/{bucket}?prefix=out/"]
        key = result["uri"].removeprefix(f"s3://{bucket}/").replace("+", "%2B").replace(":", "%3A")
        assert run.xcom[OBJECT_LINK_KEY] == f"{console}/object/{bucket}?prefix={key}"

    def test_of_a_transfer_has_it_too(self, bfl: World, bucket: str, s3_server: S3Server) -> None:
        bfl.simulator.fault("task", latency_seconds=4)
        submitted = bfl.submit()
        run = bfl.run(
            BflToS3Operator,
            polling_url=submitted["polling_url"],
            s3_bucket=bucket,
            s3_key="fox.jpg",
            aws_conn_id=s3_server.conn_id,
            deferrable=True,
        )
        meanwhile: list[Any] = []
        run.on_deferral = lambda deferral: meanwhile.append(run.xcom[OBJECT_LINK_KEY])

        run.attempt()

        assert [*meanwhile, run.xcom[OBJECT_LINK_KEY]] == [
            f"https://console.aws.amazon.com/s3/object/{bucket}?prefix=fox.jpg"
        ] * 2

    def test_that_finds_its_object_stored_has_it_again(self, bfl: World, bucket: str, s3_server: S3Server) -> None:
        run = bfl.generation(destination=f"s3://{s3_server.conn_id}@{bucket}/fox.jpg")
        run.attempt()
        link = run.xcom[OBJECT_LINK_KEY]
        run.clear()

        assert run.attempt()["reattached"] is True
        assert run.xcom[OBJECT_LINK_KEY] == link
        assert bfl.posts == 1

    def test_that_pushes_no_xcom_pushes_no_link(self, bfl: World, bucket: str, s3_server: S3Server) -> None:
        run = bfl.generation(destination=f"s3://{s3_server.conn_id}@{bucket}/fox.jpg", do_xcom_push=False)
        run.attempt()
        assert OBJECT_LINK_KEY not in run.xcom

    def test_lands_all_the_same_where_no_link_can_be_made(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any) -> None:
            raise RuntimeError("secrets backend away")

        monkeypatch.setattr("airflow_provider_bfl.landing.files.FileStore.console_url", broken)
        assert bfl.generation().attempt()["status"] == "Ready"


class TestEveryOperator:
    @pytest.mark.parametrize(
        "operator", [BflGenerationOperator, BflToS3Operator, BflToGCSOperator, BflToObjectStorageOperator]
    )
    def test_has_both_links_and_airflow_is_told_of_them(self, operator: Any) -> None:
        paths = [f"{type(link).__module__}.{type(link).__qualname__}" for link in operator.operator_extra_links]
        assert [type(link) for link in operator.operator_extra_links] == [BflStoredObjectLink, BflDashboardLink]
        assert get_provider_info()["extra-links"] == paths

    def test_names_the_dashboard(self) -> None:
        assert BflDashboardLink().get_link(None, ti_key=None) == "https://dashboard.bfl.ai"  # type: ignore[arg-type]
