# SPDX-License-Identifier: Apache-2.0
"""A local BFL API for demos, tests and offline Dag development: real sockets, real images, BFL's manners."""

from __future__ import annotations

from airflow_provider_bfl.simulator.client import LedgerView, SimulatorClient, TaskRow
from airflow_provider_bfl.simulator.faults import Fault
from airflow_provider_bfl.simulator.simulator import Simulator

__all__ = ["Fault", "LedgerView", "Simulator", "SimulatorClient", "TaskRow"]
