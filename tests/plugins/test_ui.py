# SPDX-License-Identifier: Apache-2.0
"""The plugin as Airflow loads it: static files, two components, no data."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from types import ModuleType

import pytest

from airflow_provider_bfl.plugins import ui

SCRIPTS = sorted(ui.STATIC.glob("*.js"))


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    importlib.reload(ui)


def reloaded() -> ModuleType:
    return importlib.reload(ui)


class TestTheEntryPoint:
    def test_names_the_plugin(self) -> None:
        (entry,) = entry_points(group="airflow.plugins", name="bfl")

        assert entry.value == "airflow_provider_bfl.plugins.ui:BflPlugin"
        assert entry.load().name == "bfl"


@pytest.mark.airflow3
class TestWhatIsServed:
    def test_is_one_folder_of_static_files_and_no_route(self) -> None:
        from starlette.routing import Mount
        from starlette.staticfiles import StaticFiles

        (served,) = ui.build_fastapi_apps()
        (route,) = served["app"].routes

        assert isinstance(route, Mount)
        assert isinstance(route.app, StaticFiles)
        assert served["url_prefix"] == ui.URL_PREFIX

    @pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/redoc", "/", "/{version}/", "/{version}/../ui.py"])
    def test_is_nothing_else(self, path: str) -> None:
        assert _get(path.format(version=ui.bundle_version())).status_code == 404

    @pytest.mark.parametrize("name", ["index.js", "gallery.js", "icon.svg"])
    def test_has_a_type_that_browsers_accept(self, name: str) -> None:
        answer = _get(f"/{ui.bundle_version()}/{name}")

        assert answer.status_code == 200
        assert re.match(r"(text|application)/javascript|image/svg\+xml", answer.headers["content-type"])


class TestTheComponents:
    def test_are_the_gallery_alone_unless_the_panel_is_asked_for(self) -> None:
        assert [(app["name"], app["destination"]) for app in ui.build_react_apps()] == [(ui.GALLERY, "nav")]

    def test_are_both_where_the_panel_is_asked_for(self, configured: pytest.MonkeyPatch) -> None:
        configured.setenv("AIRFLOW__BFL__TASK_PANEL", "True")

        apps = reloaded().BflPlugin.react_apps

        assert [app["destination"] for app in apps] == ["nav", "task_instance"]
        assert len({app["url_route"] for app in apps}) == 2

    def test_are_registered_under_the_names_airflow_looks_for(self) -> None:
        registered = set(re.findall(r'globalThis\["(.+?)"\]', (ui.STATIC / "index.js").read_text()))

        assert registered == {ui.GALLERY, ui.PANEL}

    def test_are_found_where_airflow_is_served_below_a_path(self, configured: pytest.MonkeyPatch) -> None:
        configured.setenv("AIRFLOW__API__BASE_URL", "https://example.com/team/airflow/")

        (app,) = ui.build_react_apps()

        assert app["bundle_url"] == f"/team/airflow/bfl/{ui.bundle_version()}/index.js"

    def test_have_an_address_of_their_own_in_each_release(
        self, configured: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("static")
        (folder / "index.js").write_text("1")
        before = ui.bundle_version()
        configured.setattr(ui, "STATIC", folder)

        assert ui.bundle_version() != before


class TestTheScripts:
    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
    def test_make_no_html_and_no_code_of_strings(self, script: str) -> None:
        source = ui.STATIC.joinpath(script).read_text()

        for word in ("innerHTML", "dangerouslySetInnerHTML", "outerHTML", "document.write", "eval(", "new Function"):
            assert word not in source

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
    def test_import_nothing_from_elsewhere(self, script: str) -> None:
        imported = re.findall(r'from "(.+?)"', ui.STATIC.joinpath(script).read_text())

        assert [each for each in imported if not (each.startswith("./") and (ui.STATIC / each).exists())] == []


def _get(path: str):  # type: ignore[no-untyped-def]
    from fastapi.testclient import TestClient

    (served,) = ui.build_fastapi_apps()
    return TestClient(served["app"]).get(path)
