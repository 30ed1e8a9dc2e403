# SPDX-License-Identifier: Apache-2.0
"""Every example Dag runs as it is: in a real Airflow with a database, against the simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest

from airflow_provider_bfl.simulator import Simulator
from tests.airflow_fixtures import CANARY_KEY, PNG
from tests.storage_servers import S3Server

EXAMPLES = Path(__file__).parents[2] / "example_dags"

#: How many results each Dag lands.
RESULTS = {
    "bfl_batch_catalogue": 3,
    "bfl_edit_images": 2,
    "bfl_eu_only": 1,
    "bfl_hero_image": 1,
    "bfl_hero_image_published": 0,
    "bfl_mapped_prompts": 4,
    "bfl_one_operator": 1,
    "bfl_task_decorator": 2,
    "bfl_three_tasks": 1,
    "bfl_to_s3": 1,
    "bfl_video": 1,
}

#: Makes an asset. dag.test() of Airflow 3.0 registers none, and then refuses a task that has one.
WITH_AN_ASSET = "bfl_hero_image"
if version("apache-airflow").startswith("3.0."):
    del RESULTS[WITH_AN_ASSET]

#: Needs a person: run in a real Airflow by the live tests. Airflow before 3.1 knows no such Dag.
WITH_A_PERSON = "bfl_human_approval"

#: Lands its result in a bucket, not in the directory of the others.
IN_S3 = "bfl_to_s3"

# dag.test() polls and defers for real; only the first poll, which waits for a model's usual time, comes sooner.
# One process for all Dags: what dag.test() needs first takes Airflow 3 longer than the Dags themselves.
_RUN_ALL = """
import importlib.util, json, sys
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_bfl.api import polling
polling.FIRST_POLL_SHARE = 0.05
told = {}
dags = {}
for path in sys.argv[3:]:
    spec = importlib.util.spec_from_file_location("example", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dags |= {each.dag_id: each for each in vars(module).values() if isinstance(each, DAG)}
for dag_id in sys.argv[2].split(","):
    run = dags.pop(dag_id).test()
    states = [str(getattr(each.state, "value", each.state)) for each in (run, *run.get_task_instances())]
    told[dag_id] = sorted(set(states))
told["not run"] = sorted(dags)
with open(sys.argv[1], "w") as file:
    json.dump(told, file)
"""


def run_python(environment: dict[str, str], *arguments: str) -> str:
    """Run Python and return all that was printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=EXAMPLES.parent,
        check=False,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done.stdout + done.stderr


class TestTheExampleDags:
    @pytest.mark.timeout(1200)
    def test_succeed_land_their_pictures_and_pay_once_for_each(
        self, bfl_simulator: Simulator, s3_server: S3Server, tmp_path: Path
    ) -> None:
        bucket = s3_server.new_bucket()
        photo = tmp_path / "inputs" / "chair.png"
        photo.parent.mkdir()
        photo.write_bytes(PNG)
        catalogue = tmp_path / "inputs" / "catalogue.csv"
        catalogue.write_text("name,prompt\nchair,An oak chair\nlamp,A brass lamp\nvase,A blue vase\n")
        environment = os.environ | {
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
            # Not DEBUG: there Airflow 3's own dag.test() prints every secret it is told to mask.
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            "AIRFLOW__BFL__ALLOW_LOCAL_FILES": str(tmp_path),
            "AIRFLOW__BFL__JOURNAL_PATH": f"file://{tmp_path}/journal",
            "AIRFLOW_CONN_BFL_DEFAULT": bfl_simulator.connection_json(api_key=CANARY_KEY),
            "AIRFLOW_CONN_BFL_EU": bfl_simulator.connection_json("eu", CANARY_KEY),
            "AIRFLOW_CONN_AWS_DEFAULT": os.environ[f"AIRFLOW_CONN_{s3_server.conn_id.upper()}"],
            "BFL_EXAMPLE_BUCKET": bucket,
            "BFL_EXAMPLE_CATALOGUE": f"file://{catalogue}",
            "BFL_EXAMPLE_DESTINATION": f"file://{tmp_path}/landed/",
            "BFL_EXAMPLE_INPUT": f"file://{photo}",
            "BFL_EXAMPLE_POOL": "default_pool",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        run_python(environment, "-m", "airflow", "db", "migrate")

        output = run_python(
            environment,
            "-c",
            _RUN_ALL,
            str(tmp_path / "told.json"),
            ",".join(RESULTS),
            *map(str, sorted(EXAMPLES.glob("*.py"))),
        )

        # dag.test() of Airflow 3.0 prints, at any level, what it tells itself to mask.
        output = "\n".join(line for line in output.splitlines() if "msg=MaskSecret(" not in line)
        told = json.loads((tmp_path / "told.json").read_text())
        assert set(told.pop("not run")) <= {WITH_A_PERSON, WITH_AN_ASSET}, "every example is run, here or live"
        assert told == {dag_id: ["success"] for dag_id in RESULTS}, output[-8000:]
        landed = [path.relative_to(tmp_path / "landed") for path in (tmp_path / "landed").rglob("*") if path.is_file()]
        some = Counter({dag_id: number for dag_id, number in RESULTS.items() if number and dag_id != IN_S3})
        assert Counter(path.parts[0] for path in landed if path.suffix not in (".json", ".jsonl")) == some
        assert Counter(path.parts[0] for path in landed if path.suffix == ".json") == some
        (stored, _) = sorted(s3_server.keys(bucket))
        assert s3_server.client.head_object(Bucket=bucket, Key=stored)["ServerSideEncryption"] == "AES256"
        ledger = bfl_simulator.ledger
        assert ledger.posts == ledger.posts_received == sum(RESULTS.values())
        assert ledger.leaks == ()
        assert {request.host for request in ledger.requests if request.role == "submit"} == {"global", "eu"}
        logs = [path.read_text(errors="replace") for path in tmp_path.rglob("*.log")]
        assert CANARY_KEY not in output + "".join(logs)
        assert "sig=" not in output + "".join(logs)
