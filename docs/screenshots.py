# SPDX-License-Identifier: Apache-2.0
"""Take the pictures of the user interface again: ``make screenshots``. Everything in them is made by the simulator."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from airflow_provider_bfl.connection_form import HOOK_NAME
from tests.browser.chromium import chromium
from tests.browser.connection_forms import open_form
from tests.browser.stage import (
    API_KEY,
    DAGS_FOLDER,
    PANEL,
    ROOT,
    RUN_SECONDS,
    Stage,
    Visitors,
    go,
    open_gallery,
    staged,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = Path(__file__).parent / "images"
EXAMPLES = ROOT / "example_dags"
WAITING = "bfl_three_tasks"
APPROVAL = "bfl_human_approval"
BUCKET = "studio-flux"
MAX_BYTES = 200_000


@contextmanager
def bucket() -> Iterator[dict[str, str]]:
    """Yield the environment of an Airflow that stores in a bucket of a local S3."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket=BUCKET)
        extra = {"endpoint_url": endpoint, "region_name": "us-east-1"}
        connection = {"conn_type": "aws", "login": "x", "password": "x", "extra": extra}
        yield {
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
            "AIRFLOW_CONN_STUDIO": json.dumps(connection),
            "AWS_EC2_METADATA_DISABLED": "true",
            "BFL_EXAMPLE_DESTINATION": f"s3://{BUCKET}/",
            "BROWSER_DESTINATION": f"s3://{BUCKET}/",
            "BROWSER_STORAGE_CONN_ID": "studio",
        }
    finally:
        server.stop()


def shrink(path: Path) -> None:
    """Save a picture again, with ever fewer colours until it is small enough for a repository."""
    with Image.open(path) as source:
        picture = source.convert("RGB")
    picture.save(path, optimize=True)
    for colours in (256, 128, 64, 32):
        if path.stat().st_size <= MAX_BYTES:
            return
        # Only a palette that is given is dithered to.
        palette = picture.quantize(colours, kmeans=4)
        picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


def take(page: Page, name: str) -> None:
    """Take a picture of what the page shows once nothing moves any more."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)  # Airflow's own transitions
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path, animations="disabled")
    shrink(path)
    print(path.relative_to(ROOT), path.stat().st_size // 1000, "KB", flush=True)


def shoot_gallery(visitors: Visitors) -> None:
    """The gallery, light and dark, and the details of one generation."""
    page = visitors.page(height=1010)
    open_gallery(page)
    take(page, "gallery")
    page.get_by_role("button", name="A hiking boot").click()
    page.get_by_role("dialog").wait_for()
    take(page, "gallery-details")
    page = visitors.page(mode="dark", height=1010)
    open_gallery(page)
    take(page, "gallery-dark")


def shoot_panels(stage: Stage, visitors: Visitors) -> None:
    """The tab of a task instance: a generation, and a batch."""
    page = visitors.page(height=1000)
    page.goto(stage.page_of("product_photos", "shoot", map_index=2, tab=PANEL))
    page.locator(".bfl-details").wait_for()
    take(page, "task-panel")
    go(page, stage.page_of("nightly_catalogue", "render", tab=PANEL))
    page.locator(".bfl-items").wait_for()
    take(page, "batch-panel")


def shoot_waiting(stage: Stage, visitors: Visitors) -> None:
    """The graph of three tasks, of which one waits in the triggerer."""
    stage.simulator.fault("task", prompt="A lighthouse", stuck=True)
    started = stage.start(WAITING)
    stage.airflow.api.wait_task(WAITING, started.runs[WAITING], "wait", ["deferred"], timeout_seconds=RUN_SECONDS)
    page = visitors.page(width=1000, height=560)
    page.goto(started.page_of(WAITING))
    page.get_by_role("button", name="Show Graph").click()
    page.get_by_role("button", name="Collapse Details Panel").click()
    page.get_by_text("deferred").first.wait_for()
    page.mouse.move(1, 1)  # what is below the pointer tells more of itself
    take(page, "three-tasks-graph")


def shoot_approval(stage: Stage, visitors: Visitors) -> None:
    """The page on which a person approves a picture."""
    started = stage.start(APPROVAL)
    stage.airflow.api.wait_task(
        APPROVAL, started.runs[APPROVAL], "approve", ["awaiting_input"], timeout_seconds=RUN_SECONDS
    )
    page = visitors.page(height=560)
    page.goto(started.page_of(APPROVAL, "approve", tab="/required_actions"))
    page.get_by_role("button", name="Approve").wait_for()
    take(page, "approval")


def shoot_connection(stage: Stage, visitors: Visitors) -> None:
    """The form of a new connection, filled in, and a connection that was tested."""
    # Airflow 3.3.2 sends port 0 for a connection without one and then finds that it differs.
    stage.airflow.api.put_connection("bfl_tested", **stage.simulator.connection(api_key=API_KEY), port=0)
    page = visitors.page(width=1200, height=480)
    page.goto("/connections")
    row = page.get_by_role("row").filter(has_text="bfl_tested")
    with page.expect_response("**/connections/test"):
        row.get_by_role("button", name="Test Connection").click()
    take(page, "connection-test")
    visitors.page(width=1200, height=830)
    page.get_by_role("button", name="Add Connection").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("input[name=connection_id]").fill("bfl_default")
    dialog.get_by_role("combobox").first.fill(HOOK_NAME)
    page.get_by_role("option", name=HOOK_NAME).click()
    dialog.locator("input[name=password]").fill(API_KEY)
    take(page, "connection-form-3.3")
    dialog.get_by_role("button", name="Extra Fields", exact=True).click()
    dialog.locator("input[name=element_timeout]").wait_for()
    dialog.get_by_role("combobox").last.click()
    take(page, "connection-form-3.3-region")


def shoot_older_forms(browser: Browser) -> None:
    """The form of a new connection on the Airflows that read it from the hook."""
    for version in ("3.1", "2.11"):
        python = ROOT / f".venv-{version}" / "bin" / "python"
        with open_form(browser, python, is_airflow_2=version.startswith("2.")) as page:
            page.set_viewport_size({"width": 1200, "height": 1450 if version == "2.11" else 1030})
            take(page, f"connection-form-{version}")


def main() -> int:
    """Run the Dags, then look at what came of them."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        dags = shutil.copytree(DAGS_FOLDER, Path(scratch) / "dags")
        for dag_id in (WAITING, APPROVAL):
            shutil.copy(EXAMPLES / f"example_{dag_id}.py", dags)
        with (
            bucket() as environment,
            staged(Path(scratch), dags_folder=dags, environment=environment, latency_scale=1) as stage,
        ):
            visitors = Visitors(stage, browser)
            shoot_gallery(visitors)
            shoot_panels(stage, visitors)
            shoot_connection(stage, visitors)
            shoot_approval(stage, visitors)
            shoot_waiting(stage, visitors)
        shoot_older_forms(browser)
    return 0


if __name__ == "__main__":
    sys.exit(main())
