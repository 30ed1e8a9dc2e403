# SPDX-License-Identifier: Apache-2.0
"""What Airflow reads about this provider, judged by Airflow's own rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.resources import files
from inspect import signature
from typing import Any, cast

import jsonschema
import pytest
from airflow.providers_manager import ProviderInfo, ProvidersManager

from airflow_provider_bfl import __version__, connection_form
from airflow_provider_bfl.get_provider_info import get_provider_info
from airflow_provider_bfl.hooks.bfl import BflHook


def schema() -> Any:
    return json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())


@pytest.fixture
def manager() -> Iterator[ProvidersManager]:
    """Airflow's own reader, fresh, with this provider among those it finds."""
    fresh: Any = cast("Any", ProvidersManager)()
    fresh._cleanup()
    fresh.initialize_providers_list()
    # Airflow 2.11 also asks where the provider was found.
    found = {"package_or_source": "package"} if "package_or_source" in signature(ProviderInfo).parameters else {}
    fresh._provider_dict["airflow-provider-bfl"] = ProviderInfo(__version__, get_provider_info(), **found)
    yield fresh
    fresh._cleanup()


class TestTheProviderInfo:
    def test_is_valid_by_the_schema_of_this_airflow(self) -> None:
        jsonschema.validate(get_provider_info(), schema())

    def test_is_plain_json(self) -> None:
        assert json.loads(json.dumps(get_provider_info())) == get_provider_info()

    def test_names_this_version(self) -> None:
        assert get_provider_info()["versions"] == [__version__]

    def test_names_a_hook_that_exists_and_agrees(self) -> None:
        (declared,) = get_provider_info()["connection-types"]
        assert declared["hook-class-name"] == f"{BflHook.__module__}.{BflHook.__qualname__}"
        assert (declared["connection-type"], declared["hook-name"]) == (BflHook.conn_type, BflHook.hook_name)

    def test_is_what_the_entry_point_brings(self) -> None:
        found = [
            each
            for each in entry_points(group="apache_airflow_provider")
            if each.dist and each.dist.name == "airflow-provider-bfl"
        ]
        if not found:
            pytest.skip("the distribution is not installed here")
        assert found[0].load()() == get_provider_info()

    def test_the_options_have_what_airflow_needs_of_each(self) -> None:
        options = get_provider_info()["config"]["bfl"]["options"]
        assert set(options) >= {"journal_path", "record_prompts", "log_prompts", "allow_local_files"}
        for name, option in options.items():
            assert {"description", "version_added", "type", "example", "default"} <= set(option), name
            assert option["default"] is None or isinstance(option["default"], str), name


class TestAirflowsProvidersManager:
    def test_finds_the_hook_under_its_connection_type(self, manager: ProvidersManager) -> None:
        hook = manager.hooks["bfl"]
        assert hook is not None
        assert (hook.hook_class_name, hook.hook_name) == ("airflow_provider_bfl.hooks.bfl.BflHook", "Black Forest Labs")
        assert hook.connection_id_attribute_name == "bfl_conn_id"
        assert hook.connection_testable

    def test_hides_and_renames_the_same_fields_everywhere(self, manager: ProvidersManager) -> None:
        assert "bfl" in manager.hooks
        behaviour = manager.field_behaviours["bfl"]
        assert set(behaviour["hidden_fields"]) == {"schema", "login", "port"}
        assert behaviour["relabeling"]["password"] == "API key"

    def test_shows_every_extra_field(self, manager: ProvidersManager) -> None:
        assert "bfl" in manager.hooks
        shown = {
            name.removeprefix("extra__bfl__")
            for name in manager.connection_form_widgets
            if name.startswith("extra__bfl__")
        }
        if not shown:
            pytest.skip("this Airflow shows no form, or its form libraries are not installed")
        assert shown == {field.name for field in connection_form.FIELDS}
