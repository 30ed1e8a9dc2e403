# SPDX-License-Identifier: Apache-2.0
"""The classes that Dags use, found by looking into every module of the packages that hold them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseOperatorLink
from airflow.triggers.base import BaseTrigger

import airflow_provider_bfl

#: Rooms whose names belong to Airflow's world; what is in the others is this provider's own.
PACKAGES = ("decorators", "hooks", "links", "operators", "sensors", "transfers", "triggers")

BASES = (BaseHook, BaseOperator, BaseOperatorLink, BaseTrigger)


def _modules() -> list[ModuleType]:
    found = pkgutil.walk_packages(airflow_provider_bfl.__path__, "airflow_provider_bfl.")
    return [importlib.import_module(each.name) for each in found if each.name.split(".")[1] in PACKAGES]


#: Name and module of every public class that derives from one of Airflow's.
SURFACES: dict[str, type] = {
    name: each
    for module in _modules()
    for name, each in vars(module).items()
    if inspect.isclass(each)
    and each.__module__ == module.__name__
    and issubclass(each, BASES)
    and not name.startswith("_")
}

OPERATORS = [each for each in SURFACES.values() if issubclass(each, BaseOperator) and not inspect.isabstract(each)]


def page_of(cls: type) -> str:
    """Return the page that documents an operator: its module's own, else its package's."""
    package, module = cls.__module__.split(".")[1:3]
    return "batch" if module == "batch" else package
