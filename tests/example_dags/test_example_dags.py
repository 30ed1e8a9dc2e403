# SPDX-License-Identifier: Apache-2.0
"""Every example Dag runs as it is: in a real Airflow with a database, against the simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from airflow_provider_bfl.simulator import Simulator
from tests.airflow_fixtures import CANARY_KEY, PNG

EXAMPLES = Path(__file__).parents[2] / "example_dags"

#: How many pictures each Dag makes.
PICTURES = {
    "bfl_edit_images": 1,
    "bfl_mapped_prompts": 4,
    "bfl_one_operator": 1,
    "bfl_three_tasks": 1,
}

# dag.test() polls and defers for real; only the first poll, which waits for a model's usual time, comes sooner.
# One process for all Dags: what dag.test() needs first takes Airflow 3 longer than the Dags themselves.
_RUN_ALL = """
import importlib.util, json, sys
from airflow_provider_bfl.api import polling
polling._FIRST_POLL_SHARE = 0.05
told = {}
for path in sys.argv[2:]:
    spec = importlib.util.spec_from_file_location("example", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = module.dag.test()
    states = [str(getattr(each.state, "value", each.state)) for each in (run, *run.get_task_instances())]
    told[module.dag.dag_id] = sorted(set(states))
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
        timeout=280,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done.stdout + done.stderr


class TestTheExampleDags:
    def test_are_all_run_here(self) -> None:
        assert {path.stem.removeprefix("example_") for path in EXAMPLES.glob("*.py")} == set(PICTURES)

    def test_succeed_land_their_pictures_and_pay_once_for_each(self, bfl_simulator: Simulator, tmp_path: Path) -> None:
        photo = tmp_path / "inputs" / "chair.png"
        photo.parent.mkdir()
        photo.write_bytes(PNG)
        environment = os.environ | {
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
            # Not DEBUG: there Airflow 3's own dag.test() prints every secret it is told to mask.
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            "AIRFLOW__BFL__ALLOW_LOCAL_FILES": str(photo.parent),
            "AIRFLOW__BFL__JOURNAL_PATH": f"file://{tmp_path}/journal",
            "AIRFLOW_CONN_BFL_DEFAULT": bfl_simulator.connection_json(api_key=CANARY_KEY),
            "BFL_EXAMPLE_DESTINATION": f"file://{tmp_path}/landed/",
            "BFL_EXAMPLE_INPUT": f"file://{photo}",
            "BFL_EXAMPLE_POOL": "default_pool",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        run_python(environment, "-m", "airflow", "db", "migrate")

        output = run_python(
            environment, "-c", _RUN_ALL, str(tmp_path / "told.json"), *map(str, sorted(EXAMPLES.glob("*.py")))
        )

        told = json.loads((tmp_path / "told.json").read_text())
        assert told == {dag_id: ["success"] for dag_id in PICTURES}, output[-8000:]
        landed = [path.relative_to(tmp_path / "landed") for path in (tmp_path / "landed").rglob("*") if path.is_file()]
        assert Counter(path.parts[0] for path in landed if path.suffix != ".json") == PICTURES
        assert Counter(path.parts[0] for path in landed if path.suffix == ".json") == PICTURES
        ledger = bfl_simulator.ledger
        assert ledger.posts == ledger.posts_received == sum(PICTURES.values())
        assert ledger.leaks == ()
        logs = [path.read_text(errors="replace") for path in tmp_path.rglob("*.log")]
        assert CANARY_KEY not in output + "".join(logs)
        assert "sig=" not in output + "".join(logs)
