# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_bfl.exceptions import BflConfigError
from airflow_provider_bfl.landing import gcs_target, open_target, s3_target
from airflow_provider_bfl.landing import target as target_module
from airflow_provider_bfl.landing.files import FileStore
from airflow_provider_bfl.landing.gcs import GCSStore
from airflow_provider_bfl.landing.s3 import S3Store


@pytest.fixture(autouse=True)
def _connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STORE", '{"conn_type": "generic"}')
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", '{"conn_type": "google_cloud_platform"}')


class TestAUriNamesAPlace:
    @pytest.mark.parametrize(
        ("destination", "uri", "is_directory"),
        [
            ("s3://bucket/a/b.png", "s3://bucket/a/b.png", False),
            ("s3a://bucket/a/", "s3://bucket/a/", True),
            ("s3://bucket/", "s3://bucket/", True),
            ("s3://store@bucket/a/b.png", "s3://bucket/a/b.png", False),
            ("gs://bucket/a/b", "gs://bucket/a/b", False),
            ("gcs://bucket/a b/", "gs://bucket/a b/", True),
            ("file:///data/a.png", "file:///data/a.png", False),
            ("file:///data/", "file:///data/", True),
        ],
    )
    def test_and_says_whether_it_is_a_directory(self, destination: str, uri: str, is_directory: bool) -> None:
        target = open_target(destination)
        assert (target.uri, target.is_directory) == (uri, is_directory)

    def test_s3_and_gcs_go_through_airflows_hooks(self) -> None:
        s3, gcs, file = (open_target(each).store for each in ("s3://b/k", "gs://b/k", "file:///k"))
        assert isinstance(s3, S3Store)
        assert isinstance(gcs, GCSStore)
        assert isinstance(file, FileStore)
        assert (s3.aws_conn_id, gcs.gcp_conn_id) == ("aws_default", "google_cloud_default")

    @pytest.mark.parametrize(
        ("destination", "conn_id"), [("s3://b/k", "store"), ("s3://store@b/k", None), ("s3://store@b/k", "store")]
    )
    def test_the_connection_is_the_given_one(self, destination: str, conn_id: str | None) -> None:
        store = open_target(destination, storage_conn_id=conn_id).store
        assert isinstance(store, S3Store)
        assert store.aws_conn_id == "store"

    def test_an_objects_uri_is_found_in_its_own_store_only(self) -> None:
        target = open_target("s3://bucket/a/")
        assert target.key_of("s3://bucket/a/d/r/t/g.png") == "a/d/r/t/g.png"
        assert target.key_of("s3://other/a/g.png") is None
        assert target.key_of("s3://bucket/") is None


class TestAnUnusableDestinationIsRefusedBeforeAnythingIsPaid:
    @pytest.mark.parametrize(
        ("destination", "why"),
        [
            ("images/fox.png", "no scheme"),
            ("/data/fox.png", "no scheme"),
            ("file:data/fox.png", "no scheme"),
            ("file://data/fox.png", "absolute"),
            ("s3:///fox.png", "no bucket"),
            ("s3://", "no bucket"),
            ("s3://bucket", "no object"),
            ("s3://bucket//a.png", "no object"),
            ("gs://bucket", "no object"),
            ("gs:///a.png", "no bucket"),
            ("file:///", "root of the file system"),
            ("s3://bucket/a.png?versionId=1", "query"),
            ("s3://bucket/a.png#part", "fragment"),
            ("s3://bucket/../a.png", r"'\.\.'"),
            ("file:///data/../etc/a", r"'\.\.'"),
            ("s3://bucket/a\tb.png", "control"),
            ("nosuch://bucket/a.png", "scheme"),
            ("https://example.com/a.png", "scheme"),
            ("s3://[bad/a.png", "Invalid"),
            ("", "no scheme"),
        ],
    )
    def test_with_the_reason(self, destination: str, why: str) -> None:
        with pytest.raises(BflConfigError, match=why) as refused:
            open_target(destination)
        assert "Nothing was submitted" in str(refused.value)

    def test_the_query_is_not_repeated_in_the_message(self) -> None:
        with pytest.raises(BflConfigError) as refused:
            open_target("s3://bucket/a.png?sig=CANARY")
        assert "CANARY" not in str(refused.value)

    @pytest.mark.parametrize("scheme", ["s3", "gs", "file"])
    def test_a_connection_that_does_not_exist(self, scheme: str) -> None:
        host = "" if scheme == "file" else "bucket"
        with pytest.raises(BflConfigError, match="no connection 'absent'"):
            open_target(f"{scheme}://{host}/key", storage_conn_id="absent")

    def test_two_different_connections(self) -> None:
        with pytest.raises(BflConfigError, match=r"'store'.*'another'"):
            open_target("s3://store@bucket/key", storage_conn_id="another")

    @pytest.mark.parametrize(("scheme", "extra"), [("s3", "amazon"), ("gs", "google")])
    def test_a_missing_extra_is_named(self, monkeypatch: pytest.MonkeyPatch, scheme: str, extra: str) -> None:
        monkeypatch.setattr(target_module, "find_spec", lambda name: None)
        with pytest.raises(BflConfigError, match=rf"airflow-provider-bfl\[{extra}\]"):
            open_target(f"{scheme}://bucket/key")

    def test_the_constructors_check_as_well(self) -> None:
        with pytest.raises(BflConfigError, match="no object"):
            s3_target("bucket", "", aws_conn_id=None)
        with pytest.raises(BflConfigError, match="no bucket"):
            s3_target("", "key", aws_conn_id=None)
        with pytest.raises(BflConfigError, match="no object"):
            gcs_target("bucket", "", gcp_conn_id="store")
        with pytest.raises(BflConfigError, match="no connection"):
            gcs_target("bucket", "key", gcp_conn_id="absent")


class TestImportingLanding:
    def test_loads_no_cloud_sdk(self) -> None:
        script = (
            "import sys, airflow_provider_bfl.exceptions; before = set(sys.modules); "
            "import airflow_provider_bfl.landing; "
            "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
            "print(sorted(new & {'boto3', 'botocore', 'google', 'fsspec', 'upath', 'PIL', 'requests', 'aiohttp'}))"
        )
        shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        assert shown.splitlines()[-1] == "[]"
