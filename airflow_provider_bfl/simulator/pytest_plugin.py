# SPDX-License-Identifier: Apache-2.0
"""pytest fixtures: a simulator for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_bfl.simulator.simulator import Simulator

#: A 12 s model takes a quarter of a second: long enough to be seen pending, short enough to wait for.
_LATENCY_SCALE = 0.02


@pytest.fixture
def bfl_simulator() -> Iterator[Simulator]:
    """A fresh simulator on free ports, fifty times faster than BFL, stopped after the test."""
    with Simulator(latency_scale=_LATENCY_SCALE) as simulator:
        yield simulator
