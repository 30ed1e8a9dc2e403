# SPDX-License-Identifier: Apache-2.0
"""What the README says of Airflow's own HTTP operators, seen in the ones installed here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.exceptions import AirflowException
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred
from airflow.providers.http.hooks.http import HttpHook
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor

from airflow_provider_bfl.simulator import Simulator
from tests.airflow_fixtures import CANARY_KEY
from tests.storage_servers import S3Server


@pytest.fixture
def submit(bfl_simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Submits to the simulator with ``HttpOperator``, as one attempt of a task does."""
    connection = {"conn_type": "http", "host": bfl_simulator.url, "extra": {"x-key": CANARY_KEY}}
    monkeypatch.setenv("AIRFLOW_CONN_HTTP_DEFAULT", json.dumps(connection))

    def attempt(**request: Any) -> Any:
        operator = HttpOperator(
            task_id="submit",
            endpoint="/v1/flux-2-pro",
            headers={"Content-Type": "application/json"},
            data=json.dumps({"prompt": "A cat", **request}),
            response_filter=lambda response: response.json(),
        )
        return operator.execute({})

    return attempt


class TestHttpOperator:
    def test_pays_again_in_a_second_attempt(self, submit: Any, bfl_simulator: Simulator) -> None:
        assert submit()["id"] != submit()["id"]
        assert bfl_simulator.ledger.posts == 2

    def test_pays_for_a_misspelt_field(self, submit: Any, bfl_simulator: Simulator) -> None:
        submit(widht=512)
        assert bfl_simulator.ledger.posts == 1

    def test_fails_when_the_account_is_full(self, submit: Any, bfl_simulator: Simulator) -> None:
        bfl_simulator.fault(on="submit", status=429)
        with pytest.raises(AirflowException, match="429"):
            submit()

    def test_takes_the_key_along_a_redirect(self, submit: Any, bfl_simulator: Simulator) -> None:
        bfl_simulator.fault(on="submit", redirect_to=f"{bfl_simulator.canary_url}/x")
        with pytest.raises(json.JSONDecodeError):
            submit()
        assert [leak.role for leak in bfl_simulator.ledger.leaks] == ["canary"]


class TestHttpSensor:
    @pytest.fixture
    def sensor(self, submit: Any, bfl_simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Any:
        bfl_simulator.fault(on="task", stuck=True)
        host, _, path = submit()["polling_url"].partition("/v1/")
        assert host != bfl_simulator.url
        connection = {"conn_type": "http", "host": host, "extra": {"x-key": CANARY_KEY}}
        monkeypatch.setenv("AIRFLOW_CONN_POLLING", json.dumps(connection))

        def build(**arguments: Any) -> HttpSensor:
            return HttpSensor(
                task_id="wait", http_conn_id="polling", endpoint=f"/v1/{path}", deferrable=True, **arguments
            )

        return build

    def test_with_a_response_check_stays_in_the_worker(self, sensor: Any) -> None:
        waiting = sensor(
            response_check=lambda response: response.json()["status"] == "Ready", timeout=0.05, poke_interval=0.01
        )
        with pytest.raises(AirflowSensorTimeout):
            waiting.execute({})

    def test_without_one_takes_pending_for_the_end(self, sensor: Any) -> None:
        try:
            sensor().execute({})
        except TaskDeferred:
            pytest.fail("it waited")


class TestAPollingUrl:
    def test_cannot_be_given_as_an_endpoint(self, submit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        polling_url = submit()["polling_url"]
        monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", json.dumps({"conn_type": "http"}))
        for conn_id in ("http_default", "nowhere"):
            hook = HttpHook("GET", http_conn_id=conn_id)
            hook.get_conn()
            assert hook.url_from_endpoint(polling_url) != polling_url


class TestHttpToS3Operator:
    @pytest.fixture
    def store(self, s3_server: S3Server, bfl_simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Any:
        from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator

        # Any page will do that is answered with 200 and is not an image.
        monkeypatch.setenv(
            "AIRFLOW_CONN_HTTP_DEFAULT",
            json.dumps({"conn_type": "http", "host": bfl_simulator.url, "extra": {"x-key": CANARY_KEY}}),
        )
        self.bucket = s3_server.new_bucket()
        return HttpToS3Operator(
            task_id="store",
            endpoint="/v1/credits",
            s3_bucket=self.bucket,
            s3_key="cat.png",
            aws_conn_id=s3_server.conn_id,
        )

    def test_stores_what_is_no_image_without_a_type(self, store: Any, s3_server: S3Server) -> None:
        store.execute({})
        stored = s3_server.client.head_object(Bucket=self.bucket, Key="cat.png")
        assert stored["ContentType"] == "binary/octet-stream"
        assert stored["Metadata"] == {}

    def test_fails_when_it_has_stored_before(self, store: Any) -> None:
        store.execute({})
        with pytest.raises(ValueError, match="already exists"):
            store.execute({})
