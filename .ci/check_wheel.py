# SPDX-License-Identifier: Apache-2.0
"""
Checks a built wheel: what is in it, that it can be built again bit for bit, and that Airflow finds the provider.

Beside it the SBOM is written: the wheel and everything it needs at run time, in the versions the lock names.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = "airflow_provider_bfl"
NAME = "airflow-provider-bfl"
CLOUDS = ("apache-airflow-providers-amazon", "apache-airflow-providers-google")
REQUIRED = {
    f"{PACKAGE}/{name}"
    for name in ("__init__.py", "api/catalogue.json", "get_provider_info.py", "plugins/static/index.js", "py.typed")
}
LOAD = """
from importlib.metadata import entry_points
(entry,) = (e for e in entry_points(group="apache_airflow_provider") if e.dist.name == "airflow-provider-bfl")
info = entry.load()()
assert info["package-name"] == "airflow-provider-bfl", info
assert any(c["connection-type"] == "bfl" for c in info["connection-types"]), info
"""
SBOM_TOOL = ".tools/security/bin/cyclonedx-py"


def check_contents(wheel: Path) -> None:
    """Exit with a message unless the wheel holds the package, whole, and nothing else."""
    names = set(zipfile.ZipFile(wheel).namelist())
    strangers = sorted(name for name in names if name.split("/")[0] != PACKAGE and ".dist-info/" not in name)
    missing = sorted(REQUIRED - names)
    if strangers or missing or not any(name.endswith("/LICENSE") for name in names):
        sys.exit(f"{wheel.name}: not of the package: {strangers}; missing: {missing or 'LICENSE'}")
    print(f"{wheel.name}: {len(names)} files, all of the package")


def check_reproducible(wheel: Path) -> None:
    """Build again, from the sdist, elsewhere and with other file modes, and exit unless the bytes are the same."""
    sdist = next(wheel.parent.glob("*.tar.gz"))
    with tempfile.TemporaryDirectory(prefix="airflow-provider-bfl-") as scratch:
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch, filter="data")
        source = next(Path(scratch).iterdir())
        for path in source.rglob("*.py"):
            path.chmod(0o600)
            os.utime(path, (0, 0))
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", f"{scratch}/dist", str(source)]
        subprocess.check_call(build, stdout=subprocess.DEVNULL)
        for first in (wheel, sdist):
            hashes = [_sha256(each) for each in (first, Path(scratch, "dist", first.name))]
            if hashes[0] != hashes[1]:
                sys.exit(f"{first.name} is not reproducible: {hashes[0]} and then {hashes[1]}")
            print(f"{first.name}: sha256 {hashes[0]}, twice (SOURCE_DATE_EPOCH={os.environ.get('SOURCE_DATE_EPOCH')})")


@contextmanager
def installed(wheel: Path) -> Iterator[Path]:
    """Yield a fresh environment with the wheel and the locked Airflow."""
    with tempfile.TemporaryDirectory(prefix="airflow-provider-bfl-") as scratch:
        environment = Path(scratch, "venv")
        subprocess.check_call([".tools/bin/uv", "venv", "--quiet", "--python", sys.executable, str(environment)])
        install(environment, "--constraint", "requirements/airflow-3.3.txt", "apache-airflow", str(wheel))
        yield environment


def install(environment: Path, *what: str) -> None:
    """Install more into an environment."""
    command = [".tools/bin/uv", "pip", "install", "--quiet", "--python", f"{environment}/bin/python"]
    subprocess.check_call([*command, *what])


def add_clouds(environment: Path, wheel: Path) -> None:
    """Install the providers that the extras name beside the wheel, Google's without what its storage does not need."""
    locked = ["--constraint", "requirements/airflow-3.3.txt"]
    install(environment, *locked, f"{wheel}[amazon]", "--requirements", "requirements/google-needs.in")
    install(environment, "--no-deps", "--requirements", "requirements/google-provider-3.3.txt")


def check_shown(environment: Path, version: str) -> None:
    """Exit with a message unless Airflow's command line shows the provider, beside those of both clouds."""
    subprocess.check_call([f"{environment}/bin/python", "-c", LOAD], cwd=environment)
    listed = _airflow(environment, "providers", "list", "--output", "plain")
    missing = [name for name in (NAME, *CLOUDS) if name not in listed]
    if missing:
        sys.exit(f"`airflow providers list` does not name {missing}:\n{listed}")
    shown = _airflow(environment, "providers", "get", NAME, "--full", "--output", "json")
    (told,) = json.loads(shown)
    if (told["package-name"], told["name"]) != (NAME, "Black Forest Labs") or version not in str(told["versions"]):
        sys.exit(f"`airflow providers get {NAME}` does not show version {version} of the provider:\n{shown}")
    print(_airflow(environment, "providers", "get", NAME).strip())


def _airflow(environment: Path, *arguments: str) -> str:
    return subprocess.check_output(
        [f"{environment}/bin/airflow", *arguments],
        env={**os.environ, "AIRFLOW_HOME": f"{environment}/airflow"},
        cwd=environment,
        text=True,
    )


def write_sbom(environment: Path, sbom: Path) -> None:
    """Write a CycloneDX SBOM of an environment, with the project as its subject."""
    describe = [SBOM_TOOL, "environment", "--pyproject", "pyproject.toml", "--mc-type", "library"]
    output = ["--output-reproducible", "--output-format", "JSON", "--output-file", str(sbom)]
    subprocess.check_call([*describe, *output, f"{environment}/bin/python"])
    print(f"{sbom.name}: sha256 {_sha256(sbom)}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    built = Path(sys.argv[1]).resolve()
    check_contents(built)
    check_reproducible(built)
    name, number = built.name.split("-")[:2]
    with installed(built) as fresh:
        write_sbom(fresh, built.parent / f"{name}-{number}.cdx.json")
        add_clouds(fresh, built)
        check_shown(fresh, number)
