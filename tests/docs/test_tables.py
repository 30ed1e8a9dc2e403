# SPDX-License-Identifier: Apache-2.0
"""The tables of the docs say what the code says."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from airflow_provider_bfl import connection_form, exceptions
from airflow_provider_bfl.api.catalogue import get_model, model_names
from airflow_provider_bfl.durable.record import Record
from airflow_provider_bfl.get_provider_info import get_provider_info
from airflow_provider_bfl.landing import Landed
from airflow_provider_bfl.operators.results import submit_result
from airflow_provider_bfl.simulator.__main__ import _parser
from tests.docs.pages import EXAMPLES, PAGES, literals, table, tables
from tests.docs.surfaces import OPERATORS, page_of


def arguments(cls: type) -> dict[str, inspect.Parameter]:
    """Return the arguments that a class adds to Airflow's, its bases' included."""
    found: dict[str, inspect.Parameter] = {}
    for each in reversed(cls.__mro__):
        if each.__module__.startswith("airflow_provider_bfl.") and "__init__" in vars(each):
            found.update(inspect.signature(vars(each)["__init__"]).parameters)
    return {name: each for name, each in found.items() if name not in ("self", "kwargs")}


def written(parameter: inspect.Parameter) -> str:
    """Return a default as the pages write it."""
    if parameter.default is parameter.empty:
        return "required"
    if parameter.name == "deferrable":
        return "``[operators] default_deferrable``"
    if isinstance(parameter.default, str):
        return f'``"{parameter.default}"``'
    return f"``{parameter.default:g}``" if isinstance(parameter.default, float) else f"``{parameter.default}``"


def rows_about(cls: type) -> dict[str, list[str]]:
    """Return default and meaning of each argument that an operator's page tells."""
    return {
        row[0].strip("`"): row[1:]
        for title, rows in tables(page_of(cls))
        # A table with a class's name is that class's; the others are everyone's.
        if not title.startswith("Bfl") or title == cls.__name__
        for row in rows
        if len(row) == 3
    }


class TestTheArgumentsOfAnOperator:
    @pytest.mark.parametrize("cls", OPERATORS, ids=lambda cls: cls.__name__)
    def test_are_all_on_its_page_with_their_defaults(self, cls: type) -> None:
        told, expected = rows_about(cls), {name: written(each) for name, each in arguments(cls).items()}
        assert {name: told.get(name, ["missing"])[0] for name in expected} == expected

    @pytest.mark.parametrize("cls", OPERATORS, ids=lambda cls: cls.__name__)
    def test_are_all_in_its_docstring(self, cls: type) -> None:
        ours = [each for each in cls.__mro__ if each.__module__.startswith("airflow_provider_bfl.")]
        docs = "\n".join(each.__doc__ or "" for each in ours)
        assert set(arguments(cls)) <= set(re.findall(r":param (\w+):", docs))

    @pytest.mark.parametrize("cls", OPERATORS, ids=lambda cls: cls.__name__)
    def test_are_called_templated_where_they_are(self, cls: Any) -> None:
        told = {name for name in arguments(cls) if "Templated" in rows_about(cls).get(name, [""])[-1]}
        assert told == set(cls.template_fields) & set(arguments(cls))


class TestTroubleshooting:
    def test_has_a_row_for_every_error_and_for_nothing_else(self) -> None:
        raised = {
            name
            for name, each in vars(exceptions).items()
            if inspect.isclass(each) and issubclass(each, exceptions.BflError) and "Base of" not in (each.__doc__ or "")
        }
        rows = [name for _, rows in tables("troubleshooting") for row in rows for name in literals(row[0])]
        assert sorted(rows) == sorted(raised)


class TestTheConfigurationPage:
    def test_has_every_option_as_airflow_is_told(self) -> None:
        options = get_provider_info()["config"]["bfl"]["options"]
        expected = {
            name: [option["type"], f"``{option['default']}``" if option["default"] else "none", option["description"]]
            for name, option in options.items()
        }
        assert {row[0].strip("`"): row[1:] for row in table("configuration", "Options")} == expected


class TestTheConnectionsPage:
    def test_has_every_field(self) -> None:
        rows = [row[0].strip("`") for row in table("connections", "Fields")]
        assert rows == ["Password", "Host", *(field.name for field in connection_form.FIELDS)]


class TestTheModelsPage:
    def test_has_every_model_of_the_catalogue(self) -> None:
        ((_, rows),) = tables("models")
        expected = []
        for name in model_names():
            model = get_model(name)
            expected.append([name, model.kind, model.status, str(model.max_active)])
        assert [[row[0].strip("`"), *row[1:4]] for row in rows] == expected

    def test_names_the_media_fields_of_each(self) -> None:
        ((_, rows),) = tables("models")
        for row in rows:
            fields = list(get_model(row[0].strip("`")).media_fields)
            told = literals(row[4])
            assert told == ([fields[0], fields[-1]] if "…" in row[4] else fields)


class TestTheResults:
    def test_have_all_their_keys_on_the_operators_page(self) -> None:
        record = Record(state="submitted", fingerprint="", model="", region="", bfl_conn_id="", epoch=0)
        results = {row[0]: literals(row[1]) for title, rows in tables("operators") if not title for row in rows}
        assert set(results["submit only"]) == set(submit_result(record))
        assert set(results["and ``destination``"]) == set(Landed(uri="", size=0).as_xcom())


class TestTheSimulatorsOptions:
    def test_are_all_on_its_page(self) -> None:
        ((_, rows),) = tables("simulator")
        options = {name for action in _parser()._actions for name in action.option_strings} - {"-h", "--help"}
        assert {row[0].strip("`") for row in rows} == options


class TestEnvironmentVariables:
    def test_of_the_examples_are_read_by_an_example(self) -> None:
        read = "".join(path.read_text() for path in EXAMPLES.glob("*.py"))
        for text in PAGES.values():
            for name in re.findall(r"BFL_EXAMPLE_\w+", text):
                assert name in read, name
