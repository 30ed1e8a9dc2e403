# SPDX-License-Identifier: Apache-2.0
"""What ``docs/stability.rst`` calls stable is there, and every public name is on it."""

from __future__ import annotations

import importlib

from airflow_provider_bfl import exceptions, retry_policy, simulator
from tests.docs.pages import literals, table, tables
from tests.docs.surfaces import SURFACES


def stable() -> dict[str, str]:
    """Return each name of the page and the module it is imported from."""
    rows = [(literals(names), where.strip("`")) for names, where in table("stability", "Names")]
    return {name: module for names, module in rows for name in names}


class TestTheStableNames:
    def test_can_be_imported_from_where_the_page_says(self) -> None:
        for name, module in stable().items():
            assert hasattr(importlib.import_module(module), name), (name, module)

    def test_are_all_classes_that_dags_use(self) -> None:
        assert {name: cls.__module__ for name, cls in SURFACES.items()}.items() <= stable().items()

    def test_are_all_that_the_simulator_exports(self) -> None:
        assert {name for name, module in stable().items() if module == simulator.__name__} == set(simulator.__all__)

    def test_are_every_error_with_the_page_of_troubleshooting(self) -> None:
        errors = {
            name for name, each in vars(exceptions).items() if getattr(each, "__module__", "") == exceptions.__name__
        }
        told = {name for _, rows in tables("troubleshooting") for row in rows for name in literals(row[0])}
        assert errors == told | {name for name, module in stable().items() if module == exceptions.__name__}

    def test_have_the_retry_policy(self) -> None:
        assert stable()["bfl_retry_policy"] == retry_policy.__name__
