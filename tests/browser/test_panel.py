# SPDX-License-Identifier: Apache-2.0
"""The tab of a task instance, on a real Airflow with real results."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.auth import GUEST, HIDDEN_DAG
from tests.browser.prompts import CATALOGUE
from tests.browser.stage import PANEL, Stage, Visitors, go

pytestmark = [pytest.mark.browser, pytest.mark.airflow3, pytest.mark.timeout(900)]


class TestThePanel:
    def test_shows_result_request_times_cost_and_sidecar_of_a_mapped_task(self, stage: Stage, page: Page) -> None:
        go(page, stage.page_of("product_photos", "shoot", map_index=2, tab=PANEL))

        panel = page.locator(".bfl-panel")
        expect(panel.get_by_role("img", name="Image by flux-2-max: A hiking boot")).to_be_visible()
        sections = ("Result", "Request", "Times", "Cost", "Sidecar")
        expect(panel.get_by_role("heading")).to_have_text(sections)
        expect(panel).to_contain_text(re.compile(r"1440 . 960, [\d.]+ KB"))
        for fact in ("Ready", "image/jpeg", "702", "SHA-256", "global", "credits", ".jpg.json", "Submitted"):
            expect(panel).to_contain_text(fact)

    def test_is_a_tab_of_the_task_instance(self, stage: Stage, page: Page) -> None:
        go(page, stage.page_of("spring_campaign", "store"))

        page.get_by_role("link", name="BFL Generation").click()

        expect(page.locator(".bfl-panel").get_by_role("img")).to_be_visible()

    def test_shows_the_counts_and_the_last_items_of_a_batch(self, stage: Stage, page: Page) -> None:
        go(page, stage.page_of("nightly_catalogue", "render", tab=PANEL))

        panel = page.locator(".bfl-panel")
        expect(panel.get_by_role("listitem")).to_have_count(12)
        expect(panel).to_contain_text(str(len(CATALOGUE)))
        expect(panel).to_contain_text("manifest.jsonl")
        expect(panel.locator("dl")).to_contain_text("moderated")

    def test_says_that_a_task_of_another_operator_has_none(self, stage: Stage, page: Page) -> None:
        go(page, stage.page_of("scribbles", "note_9", tab=PANEL))

        expect(page.locator(".bfl-panel")).to_contain_text("No generation")

    def test_tells_a_user_without_permission_so_and_nothing_else(self, stage: Stage, visitors: Visitors) -> None:
        page = visitors.page(user=GUEST)
        go(page, stage.page_of(HIDDEN_DAG, "unveil", tab=PANEL))
        expect(page.locator(".bfl-panel")).to_contain_text("No permission")

        assert "UNANNOUNCED" not in page.content()
