# SPDX-License-Identifier: Apache-2.0
"""The built wheel in an environment with the Amazon and Google providers: what is installed, and what Airflow says."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path

import pytest

import airflow_provider_bfl
from airflow_provider_bfl import __version__

pytestmark = pytest.mark.matrix

NAME = "airflow-provider-bfl"

# What Airflow's components do when they start; everything said at WARNING or above is an answer, and so is a warning
# about a file of ours.
_LOAD_ALL = """
import logging, warnings
from airflow.providers_manager import ProvidersManager
said = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: said.append(record.getMessage())
for name in ("", "airflow", "airflow.providers_manager"):
    logging.getLogger(name).addHandler(handler)
logging.disable(logging.NOTSET)
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    manager = ProvidersManager()
    for initialize in sorted(name for name in dir(manager) if name.startswith("initialize_providers_")):
        getattr(manager, initialize)()
    import airflow_provider_bfl.operators.generation, airflow_provider_bfl.sensors.generation
    import airflow_provider_bfl.transfers.bfl_to_s3, airflow_provider_bfl.transfers.bfl_to_gcs
    assert "bfl" in manager.hooks and manager.hooks["bfl"].connection_testable
said += [str(each.message) for each in warned if "airflow_provider_bfl" in each.filename]
import json
print("SAID" + json.dumps([text for text in said if "bfl" in text.lower() or "Black Forest" in text]))
"""


def run(tmp_path: Path, *arguments: str) -> str:
    """Run Python in a fresh AIRFLOW_HOME and return what it printed."""
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


class TestTheWheel:
    def test_is_what_is_tested_here(self) -> None:
        files = distribution(NAME).files or []
        found = Path(airflow_provider_bfl.__file__).resolve()
        assert found in {Path(str(each.locate())).resolve() for each in files}, f"{found} is not of the wheel"
        assert version(NAME) == __version__

    def test_says_what_it_needs(self) -> None:
        needed = {line.split(">")[0].split("[")[0] for line in distribution(NAME).requires or [] if ";" not in line}
        assert needed == {
            "apache-airflow",
            "apache-airflow-providers-common-compat",
            "requests",
            "aiohttp",
            "pendulum",
            "jsonschema",
        }

    def test_is_installed_beside_the_providers_of_both_clouds(self) -> None:
        assert version("apache-airflow-providers-amazon")
        assert version("apache-airflow-providers-google")

    def test_has_no_module_that_cannot_be_imported(self) -> None:
        walked = pkgutil.walk_packages(airflow_provider_bfl.__path__, "airflow_provider_bfl.")
        # The gallery is for Airflow that has React plugins; __main__ would start the simulator.
        names = [each.name for each in walked if not each.name.endswith("__main__") and ".plugins" not in each.name]
        assert len(names) > 40
        for name in names:
            importlib.import_module(name)


class TestAirflowsCommandLine:
    def test_shows_the_provider(self, tmp_path: Path) -> None:
        told = run(tmp_path, "-m", "airflow", "providers", "get", NAME, "--full", "--output", "json")
        # Airflow 3.0 logs to the standard output too.
        (shown,) = json.loads(told[told.index('[{"') :])
        assert shown["package-name"] == NAME
        assert shown["name"] == "Black Forest Labs"
        assert "FLUX" in shown["description"]
        assert __version__ in str(shown["versions"])

    def test_loads_it_without_a_warning(self, tmp_path: Path) -> None:
        told = run(tmp_path, "-c", _LOAD_ALL)
        (said,) = [line.removeprefix("SAID") for line in told.splitlines() if line.startswith("SAID")]
        assert json.loads(said) == []
