# SPDX-License-Identifier: Apache-2.0
"""The connection form on the Airflows before: each is run with its own interpreter and looked at from here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
WAIT_MS = 120_000


def serve(home: Path) -> None:
    """Run an Airflow until the standard input ends; say where it is and who may enter."""
    from demo.local_airflow import LocalAirflow
    from demo.surface import USER

    (home / "dags").mkdir()
    with LocalAirflow(home, dags_folder=home / "dags") as airflow:
        print(json.dumps({"address": airflow.address, "user": USER, "password": airflow.password}), flush=True)
        sys.stdin.read()


@contextmanager
def served(python: Path) -> Iterator[dict[str, str]]:
    """Yield where the Airflow of another interpreter is served."""
    with tempfile.TemporaryDirectory(prefix="airflow-provider-bfl-") as home:
        # absolute, and not resolved: the environment is found by where the link is, not by what it points to
        command = [str(python.absolute()), "-m", "tests.browser.connection_forms", home]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment, cwd=ROOT) as process:
            assert process.stdout
            assert process.stdin
            try:
                yield json.loads(process.stdout.readline())
            finally:
                process.stdin.close()
                process.wait(120)


@contextmanager
def open_form(browser: Browser, python: Path, *, is_airflow_2: bool) -> Iterator[Page]:
    """Yield a page with the form of a new connection, filled in, on the Airflow of an interpreter."""
    with served(python) as at:
        page = browser.new_page(base_url=at["address"], locale="en-GB")
        page.set_default_timeout(WAIT_MS)
        page.goto("/")
        page.locator("input[name=username]").fill(at["user"])
        page.locator("input[name=password]").fill(at["password"])
        page.locator("[type=submit]").first.click()
        page.wait_for_url(lambda url: "/login" not in url)
        (_fill_in_2 if is_airflow_2 else _fill_in_3)(page)
        yield page
        page.close()


def _fill_in_2(page: Page) -> None:
    page.goto("/connection/add")
    page.evaluate("jQuery('#conn_type').val('bfl').trigger('change')")
    page.locator("#extra__bfl__region").wait_for()
    page.locator("#conn_id").fill("bfl_default")
    page.locator("#password").fill("a key, which nobody reads")
    page.locator("#extra__bfl__region").select_option("eu")
    page.evaluate("window.scrollTo(0, 0)")


def _fill_in_3(page: Page) -> None:
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    page.locator("input[name=connection_id]").fill("bfl_default")
    kind = page.get_by_role("dialog").get_by_role("combobox").first
    kind.fill("Black Forest")
    page.get_by_role("option").first.wait_for()
    kind.press("Enter")
    page.locator("input[name=password]").fill("a key, which nobody reads")
    page.get_by_role("button", name="Extra Fields", exact=True).click()
    page.get_by_text("Trusted hosts").first.wait_for()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
