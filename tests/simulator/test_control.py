# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

import airflow_provider_bfl
from airflow_provider_bfl.simulator import Simulator, SimulatorClient
from airflow_provider_bfl.simulator import __main__ as command_line

if TYPE_CHECKING:
    from tests.simulator.conftest import Bfl

ROOT = Path(airflow_provider_bfl.__file__).parents[1]


class TestClientFromElsewhere:
    def test_scripts_faults_and_reads_the_ledger(self, bfl: Bfl) -> None:
        client = SimulatorClient(bfl.simulator.control_url)
        client.fault("delivery", content=b"\x00\xff", times=None)
        assert bfl.download(bfl.sample(bfl.submit())).content == b"\x00\xff"
        client.clear_faults()
        assert (client.ledger.posts, client.ledger.faults_left) == (1, 0)
        assert client.url == bfl.simulator.url

    def test_ignores_proxies_of_the_environment(self, bfl: Bfl, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert SimulatorClient(bfl.simulator.control_url).ledger.posts == 0

    @pytest.mark.parametrize(
        ("command", "document", "reason"),
        [
            ("/settings", {"latency": 1}, "latency_scale"),
            ("/faults", {"on": "submit", "explode": True}, "explode"),
            ("/finish", {"task_id": "nobody"}, "nobody"),
            ("/clock", {}, "advance_seconds"),
        ],
    )
    def test_nonsense_is_told_with_the_reason(self, bfl: Bfl, command: str, document: Any, reason: str) -> None:
        answer = bfl.request("POST", bfl.simulator.control_url + command, json=document)
        assert answer.status_code == 400
        assert reason in answer.json()["error"]

    def test_nonsense_raises_in_python(self, simulator: Simulator) -> None:
        with pytest.raises(ValueError, match="latency_scale"):
            simulator.settings(latency=1)

    def test_an_unknown_command_lists_the_known_ones(self, bfl: Bfl) -> None:
        answer = bfl.request("GET", bfl.simulator.control_url + "/nothing")
        assert answer.status_code == 404
        assert "POST /faults" in answer.json()["error"]

    def test_reset_forgets_what_happened_and_keeps_the_addresses(self, bfl: Bfl) -> None:
        bfl.simulator.fault("submit", status=500, times=None)
        bfl.submit()
        bfl.simulator.advance(1000)
        bfl.simulator.reset()
        assert bfl.submit().status_code == 200
        (request,) = bfl.simulator.ledger.requests
        assert bfl.simulator.ledger.posts == 1
        assert request.time == pytest.approx(time.time(), abs=100)


class TestSettings:
    def test_latency_is_scaled(self, bfl: Bfl) -> None:
        bfl.simulator.settings(latency_scale=0)
        assert bfl.status(bfl.submit()) == "Ready"

    def test_limits_can_be_set_per_model(self, bfl: Bfl) -> None:
        bfl.simulator.settings(limits={"flux-2-pro": 1})
        assert [bfl.submit().status_code, bfl.submit().status_code] == [200, 429]

    def test_raising_the_overall_limit_raises_that_of_ordinary_models(self, bfl: Bfl) -> None:
        bfl.simulator.settings(overall_limit=30)
        assert {bfl.submit("flux-2-klein-4b").status_code for _ in range(30)} == {200}
        assert bfl.submit("flux-2-klein-4b").status_code == 429


class TestLedger:
    def test_shortens_secrets_and_images_in_requests(self, bfl: Bfl) -> None:
        bfl.submit(input_image="A" * 5000, webhook_url=bfl.simulator.canary_url, webhook_secret="between us")
        (task,) = bfl.simulator.ledger.tasks
        assert len(task.request["input_image"]) < 100
        assert task.request["webhook_secret"] == "***"
        assert task.request["prompt"] == "a red kite over dunes"

    def test_counts_what_runs_and_what_ever_ran_at_once(self, bfl: Bfl) -> None:
        for _ in range(3):
            bfl.submit()
        bfl.let_everything_finish()
        bfl.submit()
        ledger = bfl.simulator.ledger
        assert (ledger.posts, ledger.active, ledger.max_active) == (4, 1, 3)

    def test_names_host_key_and_status_of_each_request(self, bfl: Bfl) -> None:
        bfl.poll(bfl.submit(base=bfl.simulator.eu_url))
        rows = bfl.simulator.ledger.requests
        assert [(row.role, row.host, row.method, row.status) for row in rows] == [
            ("submit", "eu", "POST", 200),
            ("poll", "eu", "GET", 200),
        ]
        assert rows[0].key == bfl.simulator.ledger.tasks[0].key
        assert rows[0].key is not None


class TestConnection:
    def test_names_host_key_and_trusted_hosts(self, simulator: Simulator) -> None:
        connection = simulator.connection(api_key="bfl_k")
        assert connection["host"] == simulator.url
        assert connection["password"] == "bfl_k"
        assert connection["extra"]["trusted_hosts"] == simulator.trusted_hosts
        assert len(simulator.trusted_hosts) == 5
        assert connection["extra"]["delivery_hosts"] == simulator.delivery_hosts
        assert len(simulator.delivery_hosts) == 2

    def test_of_a_region_trusts_only_its_own_hosts(self, simulator: Simulator) -> None:
        extra = simulator.connection("eu")["extra"]
        netloc = {name: urlsplit(url).netloc for name, url in simulator.addresses.items()}
        assert extra == {
            "region": "eu",
            "trusted_hosts": [netloc["submit:eu"], netloc["poll:eu"]],
            "delivery_hosts": [netloc["delivery:eu"]],
        }

    @pytest.mark.parametrize("form", ["connection_json", "connection_uri"])
    def test_is_understood_by_airflow(self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
        from airflow.models import Connection

        text = getattr(simulator, form)("us", "bfl_k%/@:")
        read = Connection.from_json(text) if form == "connection_json" else Connection(uri=text)
        assert (read.conn_type, read.host, read.password) == ("bfl", simulator.us_url, "bfl_k%/@:")
        assert read.extra_dejson == simulator.connection("us")["extra"]


class TestLifeAndDeath:
    def test_listens_on_nine_ports_of_the_loopback_address(self, simulator: Simulator) -> None:
        places = [urlsplit(url) for url in simulator.addresses.values()]
        assert {place.hostname for place in places} == {"127.0.0.1"}
        assert len({place.port for place in places}) == 9

    def test_stops_listening_and_ends_its_thread(self) -> None:
        before = threading.active_count()
        with Simulator() as simulator:
            url = simulator.url
        assert threading.active_count() == before
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=1)

    def test_can_be_started_again_but_not_twice(self) -> None:
        simulator = Simulator()
        simulator.start()
        with pytest.raises(RuntimeError, match="already running"):
            simulator.start()
        simulator.stop()
        with simulator:
            assert simulator.ledger.posts == 0

    def test_a_taken_port_is_an_error_at_start(self, simulator: Simulator) -> None:
        port = urlsplit(simulator.url).port or 0
        with pytest.raises(OSError, match="in use"):
            Simulator(port=port).start()

    def test_the_fixture_is_fast_and_works(self, bfl_simulator: Simulator) -> None:
        assert 0 < bfl_simulator.settings()["latency_scale"] < 0.1


class TestCommandLine:
    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "airflow_provider_bfl.simulator", *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    def test_prints_one_line_of_json_serves_and_ends_cleanly(self, signum: signal.Signals) -> None:
        with self.start("--json", "--credits", "42") as process:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            headers = {"x-key": told["connection"]["password"]}
            answer = requests.get(told["connection"]["host"] + "/v1/credits", headers=headers, timeout=10)
            process.send_signal(signum)
            assert process.wait(10) == 0
        assert answer.json() == {"credits": 42}
        assert SimulatorClient(told["addresses"]["control"]).control_url.startswith("http://127.0.0.1:")

    def test_says_how_to_connect_airflow(self) -> None:
        with self.start() as process:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "AIRFLOW_CONN_BFL_DEFAULT" in line)
            process.terminate()
            assert process.wait(10) == 0
        connection = json.loads(line.partition("=")[2].strip().strip("'"))
        assert connection["conn_type"] == "bfl"

    def test_without_pillow_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(command_line, "find_spec", lambda name: None)
        assert command_line.main([]) == 1
        assert "airflow-provider-bfl[simulator]" in capsys.readouterr().err

    def test_a_taken_port_is_told_in_one_line(self, simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
        assert command_line.main(["--port", str(urlsplit(simulator.url).port)]) == 1
        assert "could not start" in capsys.readouterr().err


def test_the_package_loads_no_http_library_and_no_pillow() -> None:
    heavy = "{'aiohttp', 'requests', 'PIL'}"
    code = f"import airflow_provider_bfl.simulator, sys; print(sorted({heavy} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
