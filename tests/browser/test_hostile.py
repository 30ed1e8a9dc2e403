# SPDX-License-Identifier: Apache-2.0
"""Whoever may write a Dag writes its XComs; whoever looks at the gallery must not suffer for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.stage import PANEL, Stage, Visitors, go, open_gallery

pytestmark = [pytest.mark.browser, pytest.mark.airflow3, pytest.mark.timeout(900)]

MARKUP = "<img src=x onerror=\"window.pwned='markup'\"><script>window.pwned='script'</script>"
DOCUMENT = "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIG9ubG9hZD0iYWxlcnQoMSkiLz4="
OUTSIDE = "https://attacker.invalid/pixel.png"
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def preview(**fields: Any) -> dict[str, Any]:
    return {"schema_version": 1, "kind": "generation", "id": "x", "status": "Ready", **fields}


SCRIBBLES: tuple[Any, ...] = (
    preview(
        id=MARKUP, model=MARKUP, status=MARKUP, prompt=MARKUP, seed=MARKUP, thumbnail=PIXEL, request={MARKUP: MARKUP}
    ),
    preview(
        id="svg",
        uri="javascript:window.pwned='link'",
        sidecar_uri="data:text/html,<script>1</script>",
        thumbnail=DOCUMENT,
    ),
    preview(id="out", uri=f"https://airflow.example@{OUTSIDE[8:]}?sig=SIGNATURE", thumbnail=OUTSIDE),
    preview(
        id={"a": 1}, model=["m"], prompt={"__html": MARKUP}, cost="1e999", size=-5, width={}, status=None, seed=[1]
    ),
    preview(id="element", prompt={"$$typeof": "Symbol(react.element)", "type": "script", "props": {}}, items="x"),
    {
        "schema_version": 1,
        "kind": "batch",
        "counts": {"__proto__": {"x": 1}, MARKUP: 1},
        "items": [None, 1, preview(prompt=MARKUP, thumbnail=OUTSIDE)],
    },
    preview(id="long", prompt="\u202eevil " * 50_000, submitted_at="9" * 5000, landed_at="not a time"),
    "s3://xcom-bucket/xcom/scribbles/note_7/value.json",
    [["nothing"], "of", None, 7],
)


@pytest.fixture(scope="module", autouse=True)
def _scribbled(stage: Stage) -> Iterator[None]:
    entries = f"/dags/scribbles/dagRuns/{stage.runs['scribbles'].replace('+', '%2B')}/taskInstances"
    for number, value in enumerate(SCRIBBLES):
        body = {"key": "bfl_preview", "value": value}
        stage.airflow.api.call("POST", f"{entries}/note_{number}/xcomEntries", body=body)
    yield
    for number in range(len(SCRIBBLES)):
        stage.airflow.api.call("DELETE", f"{entries}/note_{number}/xcomEntries/bfl_preview")


@pytest.fixture(scope="module")
def looked(visitors: Visitors) -> Page:
    """The gallery with all of it on, and every address it asked for in ``window.asked``."""
    page = visitors.page(mode="dark")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_gallery(page, dag="scribbles")
    for number in range(page.locator(".bfl-picture").count()):
        page.locator(".bfl-picture").nth(number).click()
        page.keyboard.press("Escape")
    page.evaluate("asked => { window.asked = asked }", asked)
    return page


class TestAHostilePreview:
    def test_runs_nothing(self, looked: Page) -> None:
        assert looked.evaluate("window.pwned ?? null") is None
        assert looked.locator(".bfl script, .bfl iframe, .bfl object, .bfl [onerror], .bfl [onload]").count() == 0

    def test_is_shown_as_the_text_it_is(self, looked: Page) -> None:
        expect(looked.locator(".bfl-card .bfl-clamp", has_text="<script>").first).to_be_visible()

    def test_loads_no_picture_but_raster_ones_that_came_with_it(self, looked: Page) -> None:
        sources = looked.locator(".bfl img").evaluate_all("all => all.map(each => each.src)")
        assert sources == [PIXEL]

    def test_asks_nothing_of_another_host(self, stage: Stage, looked: Page) -> None:
        asked = looked.evaluate("window.asked")
        strange = [each for each in asked if not each.startswith((stage.airflow.address, "data:", "blob:"))]
        assert strange == []

    def test_makes_no_link_that_is_not_one_of_airflows(self, stage: Stage, looked: Page) -> None:
        links = looked.locator(".bfl a").evaluate_all("all => all.map(each => each.href)")
        assert links
        assert [each for each in links if not each.startswith(f"{stage.airflow.address}/dags/scribbles/")] == []

    def test_shows_no_signature(self, looked: Page) -> None:
        assert "SIGNATURE" not in looked.locator(".bfl").inner_text()

    def test_hides_nobody_elses(self, stage: Stage, page: Page) -> None:
        open_gallery(page)

        expect(page.locator(".bfl-card", has_text="A hiking boot")).to_be_visible()

    def test_reorders_no_text_around_it(self, looked: Page) -> None:
        assert "\u202e" not in looked.locator(".bfl").inner_text()

    def test_that_an_xcom_backend_keeps_elsewhere_is_said_to_be_there(self, stage: Stage, looked: Page) -> None:
        expect(looked.locator(".bfl-card", has_text="note_7").locator(".bfl-picture")).to_have_text(
            "Kept by the XCom backend"
        )

    def test_breaks_no_panel(self, stage: Stage, page: Page) -> None:
        for number in range(len(SCRIBBLES)):
            go(page, stage.page_of("scribbles", f"note_{number}", tab=PANEL))
            expect(page.locator(".bfl-panel h3, .bfl-panel .bfl-notice").first).to_be_visible()

        assert page.evaluate("window.pwned ?? null") is None


class TestTheJudgement:
    @pytest.mark.parametrize(
        ("uri", "address"),
        [
            ("s3://my-bucket/a dir/x&y.png", "https://s3.console.aws.amazon.com/s3/object/my-bucket?prefix=a+dir%2Fx%26y.png"),
            ("gs://my-bucket/a dir/x.png", "https://console.cloud.google.com/storage/browser/_details/my-bucket/a%20dir/x.png"),
            ("https://cdn.example/a.png?sig=SECRET#f", "https://cdn.example/a.png"),
            ("http://cdn.example/a.png", "http://cdn.example/a.png"),
            ("https://user:word@cdn.example/a.png", None),
            ("s3://bucket@evil.example/a.png", None),
            ("s3://evil.example/../x?y", None),
            ("s3://UPPER/../x", None),
            ("gs://b\" onclick=\"x/y", None),
            ("file:///etc/passwd", None),
            ("javascript:alert(1)", None),
            (" javascript:alert(1)", None),
            ("data:text/html,x", None),
            ("vbscript:x", None),
            ("//evil.example/x", None),
            ("", None),
            (None, None),
        ],
    )  # fmt: skip
    def test_of_a_stored_objects_link(self, stage: Stage, looked: Page, uri: str | None, address: str | None) -> None:
        answer = looked.evaluate(
            "([bundle, uri]) => import(bundle).then(links => links.objectAddress(uri))", [stage.file("links.js"), uri]
        )

        assert answer == address

    @pytest.mark.parametrize(
        "value",
        [
            DOCUMENT,
            OUTSIDE,
            "data:text/html;base64,AAAA",
            "data:image/png,AAAA",
            f"{PIXEL}\n",
            f"{PIXEL}'",
            f" {PIXEL}",
            PIXEL.replace("image/png", "IMAGE/PNG+xml"),
            PIXEL + "A" * 70_000,
            7,
            None,
            {"toString": PIXEL},
            [PIXEL],
        ],
    )
    def test_of_a_thumbnail_that_is_none(self, stage: Stage, looked: Page, value: Any) -> None:
        script = "([bundle, value]) => import(bundle).then(judge => judge.picture(value))"

        assert looked.evaluate(script, [stage.file("judge.js"), value]) is None
        assert looked.evaluate(script, [stage.file("judge.js"), PIXEL]) == PIXEL
