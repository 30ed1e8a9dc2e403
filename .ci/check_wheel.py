# SPDX-License-Identifier: Apache-2.0
"""Checks a built wheel: what is in it, and that Airflow finds the provider once it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "airflow_provider_bfl"
REQUIRED = {f"{PACKAGE}/{name}" for name in ("__init__.py", "api/catalogue.json", "get_provider_info.py", "py.typed")}
LOAD = """
from importlib.metadata import entry_points
(entry,) = (e for e in entry_points(group="apache_airflow_provider") if e.dist.name == "airflow-provider-bfl")
info = entry.load()()
assert info["package-name"] == "airflow-provider-bfl", info
assert any(c["connection-type"] == "bfl" for c in info["connection-types"]), info
"""


def check_contents(wheel: Path) -> None:
    """Exit with a message unless the wheel holds the package, whole, and nothing else."""
    names = set(zipfile.ZipFile(wheel).namelist())
    strangers = sorted(name for name in names if name.split("/")[0] != PACKAGE and ".dist-info/" not in name)
    missing = sorted(REQUIRED - names)
    if strangers or missing or not any(name.endswith("/LICENSE") for name in names):
        sys.exit(f"{wheel.name}: not of the package: {strangers}; missing: {missing or 'LICENSE'}")
    print(f"{wheel.name}: {len(names)} files, all of the package")


def check_installed(wheel: Path) -> None:
    """Install the wheel with the locked Airflow in a fresh environment and ask Airflow for its providers."""
    with tempfile.TemporaryDirectory(prefix="airflow-provider-bfl-") as scratch:
        python = f"{scratch}/venv/bin/python"
        run = subprocess.check_call
        run([".tools/bin/uv", "venv", "--quiet", "--python", sys.executable, f"{scratch}/venv"])
        install = [".tools/bin/uv", "pip", "install", "--quiet", "--python", python]
        run([*install, "--constraint", "requirements/airflow-3.3.txt", "apache-airflow==3.3.2", str(wheel)])
        run([python, "-c", LOAD], cwd=scratch)
        listed = subprocess.check_output(
            [f"{scratch}/venv/bin/airflow", "providers", "list", "--output", "plain"],
            env={**os.environ, "AIRFLOW_HOME": f"{scratch}/airflow"},
            cwd=scratch,
            text=True,
        )
    if "airflow-provider-bfl" not in listed:
        sys.exit(f"`airflow providers list` does not name the provider:\n{listed}")
    print("A fresh environment with only this wheel and Airflow lists the provider")


if __name__ == "__main__":
    built = Path(sys.argv[1]).resolve()
    check_contents(built)
    check_installed(built)
