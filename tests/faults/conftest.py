# SPDX-License-Identifier: Apache-2.0
"""BFL and Airflow in processes of their own, and the grid at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from airflow_provider_bfl.simulator import SimulatorClient
from tests.faults.stage import Stage
from tests.faults.table import PAGE, Results, as_page, as_text


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """Where workers and triggerers are forked."""
    with Stage() as process:
        yield process


@pytest.fixture(scope="session")
def bfl_process() -> Iterator[SimulatorClient]:
    """A quick BFL in a process of its own."""
    command = [sys.executable, "-m", "airflow_provider_bfl.simulator", "--json", "--latency-scale", "0.002"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            addresses = json.loads(process.stdout.readline())["addresses"]
            simulator = SimulatorClient(addresses["control"])
            simulator.settings(jitter=0.0)
            yield simulator
        finally:
            process.terminate()


@pytest.fixture
def simulator(bfl_process: SimulatorClient) -> SimulatorClient:
    """BFL, having forgotten what was before."""
    bfl_process.reset()
    return bfl_process


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--grid", action="store_true", help="print the grid of faults and write it to docs/faults.rst")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the grid and write it, where that is asked for."""
    if not config.getoption("grid", default=False):
        return
    results: Results = {}
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, value in report.user_properties:
            if name == "cell" and report.when == "call":
                results[tuple(value)] = results.get(tuple(value), True) and report.passed
    terminalreporter.section("faults")
    terminalreporter.write_line(as_text(results))
    PAGE.write_text(as_page(results))
