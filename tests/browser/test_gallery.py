# SPDX-License-Identifier: Apache-2.0
"""The gallery in the navigation, on a real Airflow with real results."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.auth import GUEST, HIDDEN_DAG
from tests.browser.prompts import CATALOGUE, SHOTS
from tests.browser.stage import GALLERY, Mode, Visitors, contrast, go, open_gallery

pytestmark = [pytest.mark.browser, pytest.mark.airflow3, pytest.mark.timeout(900)]


class TestTheGallery:
    def test_is_in_the_navigation(self, page: Page) -> None:
        go(page, "/connections")
        page.get_by_role("link", name="BFL", exact=True).click()

        expect(page.locator(".bfl-card").first).to_be_visible()
        assert page.url.endswith(GALLERY)

    def test_shows_every_generation_with_its_picture(self, page: Page) -> None:
        open_gallery(page)

        for _, prompt, _ in SHOTS:
            card = page.locator(".bfl-card", has_text=prompt)
            picture = card.locator("img")
            expect(picture).to_have_attribute("src", re.compile(r"^data:image/webp;base64,"))
            assert picture.evaluate("image => image.naturalWidth") > 100

    def test_tells_model_seed_cost_size_and_when(self, page: Page) -> None:
        open_gallery(page)

        card = page.locator(".bfl-card", has_text="A hiking boot")
        for fact in ("flux-2-max", "seed 702", "credits", " KB", "ago", "Ready"):
            expect(card).to_contain_text(fact)

    def test_links_to_the_task_instance(self, page: Page) -> None:
        open_gallery(page)

        page.locator(".bfl-card", has_text="A hiking boot").get_by_role("link").click()

        expect(page.get_by_role("heading", name="shoot [2]")).to_be_visible()

    def test_shows_a_generation_once_however_many_tasks_worked_at_it(self, page: Page) -> None:
        open_gallery(page, dag="spring_campaign")

        card = page.locator(".bfl-card")
        expect(card).to_have_count(1)
        expect(card.get_by_role("link")).to_contain_text("store")
        expect(card).to_contain_text("A meadow of poppies")  # only the task that submitted knows it
        expect(card.locator("img")).to_be_visible()

    def test_shows_a_batch_as_a_contact_sheet(self, page: Page) -> None:
        open_gallery(page, dag="nightly_catalogue")

        card = page.locator(".bfl-card")
        expect(card).to_contain_text(f"{len(CATALOGUE)} items")
        expect(card.get_by_role("img", name="Contact sheet")).to_be_visible()
        expect(card.locator("img")).to_have_count(12)

    def test_says_why_a_video_and_a_moderated_generation_have_no_picture(self, page: Page) -> None:
        open_gallery(page, dag="teasers")

        expect(page.locator(".bfl-card", has_text="slow pan").locator(".bfl-picture")).to_have_text("Video")
        refused = page.locator(".bfl-card", has_text="moderated")
        expect(refused.locator(".bfl-picture")).to_have_text("No result")
        expect(refused).to_contain_text("Content Moderated")
        expect(refused).to_contain_text("0 credits")


class TestTheFilters:
    def test_narrow_by_dag_model_and_state_and_stay_in_the_address(self, page: Page) -> None:
        open_gallery(page)
        page.get_by_label("Dag", exact=True).select_option("product_photos")
        expect(page.locator(".bfl-card")).to_have_count(len(SHOTS))

        page.get_by_label("Model").select_option("flux-pro-1.1")
        expect(page.locator(".bfl-card")).to_have_count(2)
        page.reload()
        expect(page.locator(".bfl-card")).to_have_count(2)

        page.get_by_label("Model").select_option("")
        page.get_by_label("Dag", exact=True).select_option("")  # loaded with one Dag, the page knows of no other
        page.get_by_label("Dag", exact=True).select_option("teasers")
        page.get_by_label("State").select_option("Content Moderated")
        expect(page.locator(".bfl-card")).to_have_count(1)

    def test_add_up_the_cost_of_what_is_shown(self, page: Page) -> None:
        open_gallery(page, dag="product_photos", model="flux-2-max")

        expect(page.locator(".bfl-totals")).to_have_text(re.compile(r"^1 generation · [\d.]+ credits in all$"))

    def test_say_that_nothing_matches(self, page: Page) -> None:
        open_gallery(page, model="flux-9")

        expect(page.get_by_text("Nothing matches the filters")).to_be_visible()


class TestWithoutPointerOrEyes:
    def test_details_open_and_close_by_keyboard_and_give_the_focus_back(self, page: Page) -> None:
        open_gallery(page, dag="spring_campaign")
        button = page.locator(".bfl-picture")
        button.focus()

        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("SHA-256")
        page.keyboard.press("Escape")

        expect(dialog).to_have_count(0)
        expect(button).to_be_focused()

    def test_every_picture_is_described_and_every_control_named(self, page: Page) -> None:
        open_gallery(page)

        unnamed = page.locator(".bfl").evaluate(
            """root => [
                ...[...root.querySelectorAll("img")].filter(each => !each.alt && !each.closest("[role=img]")),
                ...[...root.querySelectorAll("button, a")].filter(each => !(each.ariaLabel ?? each.textContent).trim()),
            ].length"""
        )
        assert unnamed == 0
        expect(page.get_by_role("button", name="Details: Image by flux-2-max: A hiking boot")).to_be_visible()

    @pytest.mark.parametrize("mode", ["light", "dark"])
    def test_text_stands_out_in_light_and_dark(self, visitors: Visitors, mode: Mode) -> None:
        page = visitors.page(mode=mode)
        open_gallery(page)
        is_dark = page.evaluate("document.documentElement.className.includes('dark')")
        for part in (
            "h1",
            ".bfl-totals",
            ".bfl-clamp",
            ".bfl-card .bfl-muted",
            ".bfl-task",
            ".bfl-good",
            ".bfl-bad",
        ):
            assert contrast(page, f".bfl {part}") >= 4.5, part

        assert is_dark == (mode == "dark")


class TestPermissions:
    """Airflow decides: the plugin asks its API as the user who looks."""

    def test_a_viewer_sees_what_airflow_lets_them_see(self, visitors: Visitors) -> None:
        page = visitors.page(user=GUEST)
        open_gallery(page)

        expect(page.locator(".bfl-card", has_text="A hiking boot")).to_be_visible()

    def test_nothing_of_a_dag_that_airflow_denies_them_reaches_the_browser(self, visitors: Visitors) -> None:
        heard: list[str] = []
        page = visitors.page(user=GUEST)
        page.on("response", lambda answer: heard.append(answer.url + (answer.text() if answer.ok else "")))
        open_gallery(page)
        expect(page.locator(".bfl-card", has_text="A hiking boot")).to_be_visible()
        dags = page.get_by_label("Dag", exact=True).locator("option").all_inner_texts()
        open_gallery(page, dag=HIDDEN_DAG, wait=False)
        expect(page.get_by_text("No permission")).to_be_visible()

        assert len([each for each in heard if "/xcomEntries/" in each]) >= len(SHOTS)
        assert "product_photos" in dags
        assert HIDDEN_DAG not in dags
        assert not [each for each in heard if "UNANNOUNCED" in each]

    def test_while_another_user_sees_it(self, page: Page) -> None:
        open_gallery(page, dag=HIDDEN_DAG)

        expect(page.locator(".bfl-card")).to_contain_text("UNANNOUNCED")


class TestWhenThereIsNothingToShow:
    def test_no_generation(self, page: Page) -> None:
        page.route("**/xcomEntries?*", lambda route: route.fulfill(json={"xcom_entries": [], "total_entries": 0}))
        open_gallery(page, wait=False)

        expect(page.get_by_text("No generations yet")).to_be_visible()

    @pytest.mark.parametrize(
        ("status", "words"), [(403, "You may not read XComs"), (401, "Reload the page to sign in again")]
    )
    def test_no_permission_and_no_session(self, page: Page, status: int, words: str) -> None:
        page.route("**/xcomEntries?*xcom_key=*", lambda route: route.fulfill(status=status, json={"detail": "no"}))
        open_gallery(page, wait=False)

        expect(page.get_by_text(words)).to_be_visible()

    def test_a_failure_that_passes(self, page: Page) -> None:
        page.route("**/xcomEntries?*", lambda route: route.fulfill(status=500, body="x"), times=1)
        open_gallery(page, wait=False)

        page.get_by_role("button", name="Try again").click()

        expect(page.locator(".bfl-card").first).to_be_visible()

    def test_a_value_that_was_cleared_since_it_was_listed(self, page: Page) -> None:
        page.route("**/xcomEntries/bfl_preview?*", lambda route: route.fulfill(status=404, json={}), times=1)
        open_gallery(page, dag="product_photos")

        expect(page.locator(".bfl-card")).to_have_count(len(SHOTS) - 1)


class TestAnAirflowThatDoesNotSort:
    """Airflow 3.1 ignores order_by and lists by Dag."""

    def test_has_its_newest_first_all_the_same(self, page: Page) -> None:
        asked: list[str] = []
        pushed: dict[str, int] = {}

        def jumbled(route: Route) -> None:
            asked.append(route.request.url)
            all_of_it = re.sub(r"offset=\d+", "offset=0", asked[-1])
            answer = route.fetch(url=all_of_it).json()
            rows = sorted(answer["xcom_entries"], key=lambda row: str(row["timestamp"]))
            for row in rows:
                milliseconds = datetime.fromisoformat(row["timestamp"]).timestamp() * 1000
                pushed[f"[{row['map_index']}]"] = int(milliseconds)
            start = int(asked[-1].partition("offset=")[2].partition("&")[0])
            route.fulfill(json={**answer, "xcom_entries": rows[start : start + 5]})

        page.route("**/xcomEntries?*", jumbled)
        open_gallery(page, dag="product_photos", wait=False)
        expect(page.locator(".bfl-card")).to_have_count(len(SHOTS))

        times = [pushed[task.split()[-1]] for task in page.locator(".bfl-card .bfl-task").all_inner_texts()]
        assert times == sorted(times, reverse=True)
        assert len(asked) == 3
