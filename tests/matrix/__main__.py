# SPDX-License-Identifier: Apache-2.0
"""
`make matrix`: install the wheel beside each Airflow, check it there, print a table and write the docs' copy of it.

What is tested is what users get: the wheel, built from these files and installed into an environment that has never
seen them, with the tests of the sdist beside it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.matrix.table import PAGE, Result, as_page, as_text

ROOT = Path(__file__).parents[2]
UV = str(ROOT / ".tools" / "bin" / "uv")
BUILD = ROOT / "build" / "matrix"
ENVIRONMENTS = ROOT / ".venv-matrix"

#: Rooms that do not know Airflow, rooms of other commands, and those that are checks of their own here.
_NOT_OF_AIRFLOW = {"api", "benchmarks", "browser", "distributed", "docs", "example_dags", "faults", "fuzz"}
_NOT_OF_AIRFLOW |= {"live", "matrix", "simulator", "soak", "transport"}
_HERE = "not live and not matrix and not browser and not distributed and not bench"


@dataclass(frozen=True)
class Row:
    """
    An Airflow and a Python to try it with.

    :param python: The Python wanted; where it is not found, another that this Airflow takes.
    :param newest: The newest Python, as 3.x, that this Airflow takes.
    :param whole: Whether the whole suite is run, and not only what meets Airflow.
    """

    airflow: str
    python: int
    newest: int
    whole: bool = False

    @property
    def locks(self) -> list[str]:
        """The locked requirements: Airflow with Amazon's provider, and Google's provider alone."""
        google = "2.11" if self.airflow == "2.11" else "3.3"
        return [f"requirements/airflow-{self.airflow}.txt", f"requirements/google-provider-{google}.txt"]

    @property
    def release(self) -> str:
        """The exact release of Airflow."""
        found = re.search(r"^apache-airflow==(\S+)$", (ROOT / self.locks[0]).read_text(), re.MULTILINE)
        assert found, self.locks[0]
        return found[1]

    @property
    def interpreter(self) -> str:
        """Python, in this row's own environment."""
        return str(ENVIRONMENTS / self.airflow / "bin" / "python")


ROWS = (
    Row("2.11", python=11, newest=12, whole=True),
    Row("3.0", python=12, newest=12),
    Row("3.1", python=13, newest=13),
    Row("3.2", python=12, newest=13),
    Row("3.3", python=13, newest=14),
)


@dataclass(frozen=True)
class Check:
    """
    Something that pytest is asked to do in an environment.

    :param selection: Which tests, as pytest's arguments.
    """

    name: str
    selection: Sequence[str]


def checks(row: Row, tests: Path, *, suite: bool) -> list[Check]:
    """Return what is checked, the longest first; with the test suite, or only what no other command looks at."""
    return [*(_suite(row, tests) if suite else ()), *_INSTALLED]


def _suite(row: Row, tests: Path) -> list[Check]:
    here = _HERE if row.airflow.startswith("3") else f"{_HERE} and not airflow3"
    if row.whole:
        return [Check("the whole suite", ("-m", here, "tests", "--ignore=tests/example_dags"))]
    rooms = sorted(path.name for path in tests.iterdir() if path.is_dir() or path.match("test_*.py"))
    paths = [f"tests/{name}" for name in rooms if name not in _NOT_OF_AIRFLOW and name != "__pycache__"]
    return [
        Check("the suite, as far as it meets Airflow", ("-m", here, *paths)),
        Check("the fault grid, workers killed while they poll", ("-m", here, "-k", "polls", "tests/faults")),
    ]


_INSTALLED = (
    Check("scheduler, triggerer, journal, connection form", ("-m", "matrix", "tests/matrix/test_real_airflow.py")),
    Check("example Dags with dag.test()", ("tests/example_dags",)),
    Check("the wheel, installed", ("-m", "matrix", "tests/matrix/test_installed.py")),
)


def find_python(row: Row) -> str:
    """Return the interpreter that is wanted, or else one that this Airflow takes."""
    # pyenv's stubs on the PATH only fail for a version that is not chosen, so its folders are looked in after them.
    installed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin")
    path = os.pathsep.join([os.environ["PATH"], *map(str, sorted(installed))])
    found = subprocess.run(
        [UV, "python", "find", "--no-project", f"3.{row.python}"],
        env=os.environ | {"UV_PYTHON_DOWNLOADS": "never", "PATH": path},
        cwd=ENVIRONMENTS,
        check=False,
        capture_output=True,
        text=True,
    )
    if found.returncode == 0:
        return found.stdout.strip()
    other = subprocess.check_output([ROOT / ".ci" / "find_python", str(row.newest)], text=True).strip()
    print(f"There is no Python 3.{row.python} here: Airflow {row.airflow} is tried with {other}", flush=True)
    return other


def build() -> tuple[Path, Path]:
    """Build the wheel, and unpack the sdist without the package; return both."""
    shutil.rmtree(BUILD, ignore_errors=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(BUILD), str(ROOT)]
    subprocess.check_call(command, stdout=subprocess.DEVNULL)
    tree = BUILD / "tree"
    with tarfile.open(next(BUILD.glob("*.tar.gz"))) as archive:
        archive.extractall(BUILD, filter="data")
    next(path for path in BUILD.iterdir() if path.is_dir()).rename(tree)
    shutil.rmtree(tree / "airflow_provider_bfl")
    return next(BUILD.glob("*.whl")), tree


def install(row: Row, wheel: Path) -> None:
    """Make the row's environment hold what its lock names, the wheel, and nothing else."""
    python, run = Path(row.interpreter), subprocess.check_call
    ENVIRONMENTS.mkdir(exist_ok=True)
    wanted = find_python(row)
    if not python.exists() or _minor(str(python)) != _minor(wanted):
        run([UV, "venv", "--quiet", "--clear", "--python", wanted, str(python.parents[1])])
    install_into = ["--quiet", "--python", str(python)]
    run([UV, "pip", "sync", *install_into, *row.locks], cwd=ROOT)
    # With its requirements: what the lock has not would be installed now, and the constraint says that it may not.
    constraint = ["--constraint", row.locks[0]]
    run([UV, "pip", "install", *install_into, *constraint, str(wheel)], cwd=ROOT)


def _minor(python: str) -> str:
    say = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.check_output([python, "-c", say], text=True).strip()


def check(row: Row, what: Check, tree: Path, python: str) -> Result:
    """Run one check and return how it ended; what went wrong is printed."""
    name = re.sub(r"\W+", "-", what.name)
    report, log = BUILD / f"{row.airflow}-{name}.xml", BUILD / f"{row.airflow}-{name}.log"
    options = ["-q", "-p", "no:cacheprovider", "--timeout=900", f"--junitxml={report}"]
    command = [row.interpreter, "-m", "pytest", *options, *what.selection]
    began = time.monotonic()
    with log.open("w") as output:
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": str(tree)},
            cwd=tree,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    seconds = time.monotonic() - began
    passed, skipped = _counts(report)
    result = Result(row.release, python, what.name, seconds, passed, skipped, done.returncode == 0)
    print(f"{result.airflow} {result.what}: {result.outcome} after {seconds:.0f} s", flush=True)
    if done.returncode:
        print("\n".join(log.read_text(errors="replace").splitlines()[-150:]), flush=True)
    return result


def _counts(report: Path) -> tuple[int, int]:
    if not report.exists():
        return 0, 0
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    tests, errors, failures, skipped = (int(suite.get(key, 0)) for key in ("tests", "errors", "failures", "skipped"))
    return tests - errors - failures - skipped, skipped


def run_all(rows: Sequence[Row], workers: int, *, suite: bool) -> list[Result]:
    """Install everywhere, then check, as many at once as there are workers."""
    wheel, tree = build()
    pythons = {}
    for row in rows:
        began = time.monotonic()
        install(row, wheel)
        pythons[row] = _minor(row.interpreter)
        print(f"{row.release} on Python {pythons[row]}: installed in {time.monotonic() - began:.0f} s", flush=True)
    jobs = [(row, each) for row in rows for each in checks(row, tree / "tests", suite=suite)]
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(lambda job: check(job[0], job[1], tree, pythons[job[0]]), jobs))
    return sorted(found, key=lambda result: result.airflow)


def main() -> int:
    """Run what was asked for; the docs' table is written only by a run of everything in which all was right."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--only", help="versions of Airflow, separated by commas: 3.0,3.2")
    parser.add_argument("--suite", action="store_true", help="the test suite too, which takes most of an hour")
    parser.add_argument("--workers", type=int, default=2, help="how many checks run at once (default 2)")
    asked = parser.parse_args()
    rows = [row for row in ROWS if not asked.only or row.airflow in asked.only.split(",")]
    began = time.monotonic()
    results = run_all(rows, asked.workers, suite=asked.suite)
    print(as_text(results))
    right = all(result.right for result in results)
    print(f"{len(rows)} versions in {time.monotonic() - began:.0f} s: {'all right' if right else 'NOT ALL RIGHT'}")
    # A CI run leaves the files that it builds the release from as they are.
    if right and len(rows) == len(ROWS) and "CI" not in os.environ:
        PAGE.write_text(as_page(results))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
