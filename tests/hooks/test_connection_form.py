# SPDX-License-Identifier: Apache-2.0
"""The connection form, in every shape Airflow wants it."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import jsonschema
import pytest

from airflow_provider_bfl import connection_form
from airflow_provider_bfl.hooks.bfl import BflHook

NAMES = ["region", "timeout", "trusted_hosts", "delivery_hosts"]


class TestTheForm:
    def test_has_the_same_fields_in_every_shape(self) -> None:
        assert list(connection_form.build_conn_fields()) == NAMES
        if find_spec("flask_appbuilder"):
            assert list(BflHook.get_connection_form_widgets()) == NAMES

    def test_says_of_every_field_what_it_is_for(self) -> None:
        for field in connection_form.build_conn_fields().values():
            assert field["label"]
            assert field["description"].endswith(".")

    def test_offers_the_regions_as_a_choice(self) -> None:
        schema = connection_form.build_conn_fields()["region"]["schema"]
        assert (schema["enum"], schema["default"]) == (["global", "eu", "us"], "global")

    def test_takes_a_field_that_was_left_empty(self) -> None:
        for name, field in connection_form.build_conn_fields().items():
            schema = dict(field["schema"])
            if name != "region":
                jsonschema.validate(None, schema)

    def test_calls_the_password_what_it_is_and_hides_what_is_unused(self) -> None:
        behaviour = BflHook.get_ui_field_behaviour()
        assert behaviour["relabeling"]["password"] == "API key"
        assert set(behaviour["hidden_fields"]) == {"schema", "login", "port"}
        assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}
        metadata = connection_form.build_metadata_field_behaviour()
        assert {name.replace("-", "_"): value for name, value in metadata.items()} == behaviour

    def test_shows_no_key_as_an_example(self) -> None:
        assert BflHook.get_ui_field_behaviour()["placeholders"]["password"] == "bfl_…"

    def test_is_empty_where_no_form_library_is_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("flask_appbuilder.fieldwidgets", "flask_babel", "wtforms", "wtforms.validators"):
            monkeypatch.setitem(sys.modules, name, None)
        assert connection_form.build_form_widgets() == {}

    def test_is_not_shared_between_its_readers(self) -> None:
        connection_form.build_ui_field_behaviour()["hidden_fields"].append("host")
        connection_form.build_conn_fields()["region"]["schema"]["enum"].append("mars")
        assert "host" not in connection_form.build_ui_field_behaviour()["hidden_fields"]
        assert "mars" not in connection_form.build_conn_fields()["region"]["schema"]["enum"]
