# SPDX-License-Identifier: Apache-2.0
"""Admin → Connections: the form for Black Forest Labs, filled in, saved, opened again and tested."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import Locator, Page, expect

from airflow_provider_bfl.connection_form import HOOK_NAME
from tests.browser.stage import API_KEY, Stage, go

pytestmark = [pytest.mark.browser, pytest.mark.airflow3, pytest.mark.timeout(900)]

CONN_ID = "bfl_from_the_form"


@pytest.fixture
def form(stage: Stage, page: Page) -> Iterator[Locator]:
    """The empty form of a new connection."""
    go(page, "/plugin/nowhere")
    # A dialog that a test left open is gone only with the page it is on; while it is there, it hides the rest.
    expect(page.locator("button", has_text="Add Connection")).to_have_count(0)
    expect(page.get_by_role("dialog")).to_have_count(0)
    go(page, "/connections")
    page.get_by_role("button", name="Add Connection").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("input[name=connection_id]").fill(CONN_ID)
    dialog.get_by_role("combobox").first.fill(HOOK_NAME)
    page.get_by_role("option", name=HOOK_NAME).click()
    dialog.locator("input[name=password]").wait_for()
    yield dialog
    try:
        stage.airflow.api.call("DELETE", f"/connections/{CONN_ID}")
    except requests.HTTPError as error:
        if error.response.status_code != requests.codes.not_found:
            raise


def unfold_extra(dialog: Locator) -> None:
    """Airflow shows one part of a form at a time."""
    dialog.get_by_role("button", name="Extra Fields", exact=True).click()
    dialog.locator("input[name=element_timeout]").wait_for()


def choose_region(page: Page, dialog: Locator, region: str) -> None:
    dialog.get_by_role("combobox").last.click()
    page.get_by_role("option", name=region, exact=True).click()


def save(dialog: Locator) -> None:
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)


def reopen(page: Page) -> Locator:
    go(page, "/connections")
    row = page.get_by_role("row").filter(has_text=CONN_ID)
    row.get_by_role("button", name="Edit Connection").click()
    return page.get_by_role("dialog")


class TestTheForm:
    def test_asks_for_what_a_connection_to_bfl_has_and_nothing_else(self, form: Locator) -> None:
        for label in ("Description", "Base URL", "API key"):
            expect(form.get_by_text(label, exact=True)).to_be_visible()
        unfold_extra(form)
        for label in ("Region", "Timeout (seconds)", "Trusted hosts", "Delivery hosts"):
            expect(form.get_by_text(label, exact=True)).to_be_visible()
        for label in ("Login", "Port", "Schema"):
            expect(form.get_by_text(label, exact=True)).to_have_count(0)

    def test_hides_the_key_while_it_is_typed(self, form: Locator) -> None:
        key = form.locator("input[name=password]")
        key.fill(API_KEY)

        expect(key).to_have_attribute("type", "password")
        form.get_by_role("button", name="Show value").click()
        expect(key).to_have_attribute("type", "text")

    def test_offers_bfls_regions(self, page: Page, form: Locator) -> None:
        unfold_extra(form)
        form.get_by_role("combobox").last.click()

        expect(page.get_by_role("option")).to_have_text(["global", "eu", "us"])

    def test_saves_what_was_filled_in_and_keeps_it_when_edited(self, stage: Stage, page: Page, form: Locator) -> None:
        form.locator("input[name=password]").fill(API_KEY)
        form.locator("input[name=host]").fill("https://gateway.example")
        unfold_extra(form)
        choose_region(page, form, "eu")
        form.locator("input[name=element_timeout]").fill("45")
        save(form)

        again = reopen(page)
        expect(again.locator("input[name=host]")).to_have_value("https://gateway.example")
        expect(again.locator("input[name=password]")).to_have_value("***")
        again.locator("input[name=host]").fill("https://other.example")
        save(again)

        stored = stage.airflow.api.call("GET", f"/connections/{CONN_ID}")
        extra = json.loads(stored["extra"])
        assert (stored["conn_type"], stored["host"]) == ("bfl", "https://other.example")
        assert (extra["region"], extra["timeout"]) == ("eu", 45)
        assert stage.stored_password(CONN_ID) == API_KEY, "an unchanged mask does not replace the key"


class TestTestingAConnection:
    def test_tells_the_balance_and_submits_nothing(self, stage: Stage) -> None:
        connection = stage.simulator.connection(api_key=API_KEY)
        posts = stage.simulator.ledger.posts
        body = {"connection_id": "bfl_tested", **connection, "extra": json.dumps(connection["extra"])}

        answer = stage.airflow.api.call("POST", "/connections/test", body=body)

        assert answer["status"] is True
        assert "credits" in answer["message"]
        assert stage.simulator.ledger.posts == posts

    def test_by_its_button_in_the_list_turns_green(self, stage: Stage, page: Page) -> None:
        # Airflow 3.3.2 sends port 0 for a connection without one and then finds that it differs.
        stage.airflow.api.put_connection("bfl_tested", **stage.simulator.connection(api_key=API_KEY), port=0)
        page.goto("/connections")  # loaded anew: it is kept in the page and does not know of the new one
        row = page.get_by_role("row").filter(has_text="bfl_tested")

        with page.expect_response("**/connections/test") as heard:
            row.get_by_role("button", name="Test Connection").click()

        assert heard.value.json()["status"] is True
