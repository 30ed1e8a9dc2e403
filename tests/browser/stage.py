# SPDX-License-Identifier: Apache-2.0
"""A real Airflow whose Dags have filled the gallery, and a way to look at it; the screenshots are taken on it too."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlencode

from cryptography.fernet import Fernet

from airflow_provider_bfl.plugins.ui import URL_PREFIX, bundle_version
from airflow_provider_bfl.simulator import Simulator
from demo.airflow_api import AirflowApi
from demo.local_airflow import USER, LocalAirflow
from tests.browser.auth import GUEST, HIDDEN_DAG

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
DAGS_FOLDER = Path(__file__).parent / "dags"
DAGS = ("product_photos", "spring_campaign", "teasers", "nightly_catalogue", HIDDEN_DAG, "scribbles")
MODERATED_TASK = "refused"
Mode = Literal["light", "dark"]

API_KEY = "bfl_a-key-of-the-browser-tests"

GALLERY = "/plugin/bfl-gallery"
PANEL = "/plugin/bfl"

#: A page of Airflow's comes up in two seconds; on a machine that does four other things, in many more.
WAIT_MS = 60_000
RUN_SECONDS = 300


@dataclass(frozen=True)
class Stage:
    """
    What there is to look at.

    :param runs: The run id of each Dag's one run.
    """

    airflow: LocalAirflow
    simulator: Simulator
    runs: Mapping[str, str]

    def page_of(self, dag_id: str, task_id: str = "", *, map_index: int = -1, tab: str = "") -> str:
        """Return the path of a task instance's page; without a task, of the run's."""
        mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
        task = f"/tasks/{task_id}{mapped}{tab}" if task_id else ""
        return f"/dags/{dag_id}/runs/{quote(self.runs[dag_id])}{task}"

    def start(self, dag_id: str) -> Stage:
        """Start a run of one more Dag, and return the stage with it."""
        api = self.airflow.api
        api.wait_for_dag(dag_id, RUN_SECONDS)
        api.unpause(dag_id)
        return replace(self, runs={**self.runs, dag_id: api.trigger(dag_id)})

    def file(self, name: str) -> str:
        """Return the path of a file of the plugin's."""
        return f"{URL_PREFIX}/{bundle_version()}/{name}"

    def stored_password(self, conn_id: str) -> str:
        """Return what the metadata database has as a connection's password."""
        with closing(sqlite3.connect(f"file:{self.airflow.home}/airflow.db?mode=ro", uri=True, timeout=30)) as database:
            (encrypted,) = database.execute("SELECT password FROM connection WHERE conn_id = ?", [conn_id]).fetchone()
        key = self.airflow.environment["AIRFLOW__CORE__FERNET_KEY"]
        return Fernet(key).decrypt(encrypted.encode()).decode()

    def password(self, user: str) -> str:
        """Return the password that Airflow made for a user."""
        file = self.airflow.home / "simple_auth_manager_passwords.json.generated"
        return str(json.loads(file.read_text())[user])

    def api_of(self, user: str) -> AirflowApi:
        """Return the REST API as a user may use it."""
        return AirflowApi(self.airflow.address, user, self.password(user))


class Visitors:
    """
    Users who have signed in, each with one page that is kept: to load Airflow takes seconds, and to walk around, none.

    :param scale: Device pixels per CSS pixel.
    """

    def __init__(self, stage: Stage, browser: Browser, *, scale: float = 1) -> None:
        self._stage = stage
        self._browser = browser
        self._scale = scale
        self._pages: dict[tuple[str, str], Page] = {}

    def page(self, *, user: str = USER, mode: Mode = "light", width: int = 1440, height: int = 900) -> Page:
        """Return the page of a user's browser, wherever it was left."""
        if (user, mode) not in self._pages:
            self._pages[user, mode] = self._signed_in(user, mode)
        page = self._pages[user, mode]
        page.set_viewport_size({"width": width, "height": height})
        return page

    def _signed_in(self, user: str, mode: Mode) -> Page:
        context = self._browser.new_context(
            base_url=self._stage.airflow.address, color_scheme=mode, locale="en-GB", device_scale_factor=self._scale
        )
        context.set_default_timeout(WAIT_MS)
        context.add_init_script(f"localStorage.setItem('theme', '{mode}')")
        page = context.new_page()
        page.goto("/")
        page.fill("input[name=username]", user)
        page.fill("input[name=password]", self._stage.password(user))
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "login" not in url, wait_until="commit")
        page.get_by_role("link", name="Dags").first.wait_for()
        return page


@contextmanager
def staged(
    root: Path,
    *,
    dags_folder: Path = DAGS_FOLDER,
    environment: Mapping[str, str] | None = None,
    latency_scale: float = 0.02,
) -> Iterator[Stage]:
    """
    Run all Dags and yield what came of it.

    :param root: A folder for Airflow and, unless ``environment`` says otherwise, the results.
    :param dags_folder: A folder with the Dags of ``DAGS`` in it, and maybe more.
    :param environment: More variables for Airflow's components.
    :param latency_scale: Factor on BFL's own times.
    """
    with (
        Simulator(latency_scale=latency_scale, jitter=0.0) as simulator,
        LocalAirflow(
            root / "airflow",
            dags_folder=dags_folder,
            python_path=[ROOT],
            environment={
                "AIRFLOW__BFL__TASK_PANEL": "True",
                "AIRFLOW__CORE__AUTH_MANAGER": "tests.browser.auth.OneDagDenied",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin,{GUEST}:viewer",
                "BROWSER_DESTINATION": f"file://{root}/landed/",
                **(environment or {}),
            },
        ) as airflow,
    ):
        for prompt in ("Something that is moderated", "A folding knife"):
            simulator.fault("task", prompt=prompt, times=None, final_status="Content Moderated")
        connection = simulator.connection(api_key=API_KEY)
        airflow.api.put_connection("bfl_default", **connection)
        stage = Stage(airflow, simulator, {})
        for dag_id in DAGS:
            stage = stage.start(dag_id)
        _wait(airflow.api, stage.runs)
        yield stage


def go(page: Page, path: str) -> None:
    """Go to a path as Airflow's own links do, without loading Airflow again; that takes seconds."""
    if not page.url.startswith("http"):
        page.goto(path)
        return
    page.evaluate("path => { history.pushState({}, '', path); dispatchEvent(new PopStateEvent('popstate')); }", path)


def open_gallery(page: Page, *, wait: bool = True, **filters: str) -> None:
    """Open the gallery anew, with filters, and wait until it shows something."""
    if page.locator(".bfl").count():
        go(page, "/plugin/nowhere")
        page.locator(".bfl").wait_for(state="detached")
    go(page, f"{GALLERY}?{urlencode(filters)}")
    page.locator(".bfl-totals[aria-busy=false]" if wait else ".bfl").wait_for()


def contrast(page: Page, selector: str) -> float:
    """Return the contrast of an element's text with what is painted behind it, 1 to 21 as WCAG counts it."""
    return float(page.locator(selector).first.evaluate(_CONTRAST))


_CONTRAST = """element => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const painted = (colours) => {
        canvas.clearRect(0, 0, 1, 1);
        for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (colour) => {
        const [r, g, b] = colour.map((each) => {
            const part = each / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = [];
    for (let each = element; each; each = each.parentElement) behind.unshift(getComputedStyle(each).backgroundColor);
    const [ground, text] = [light(painted(behind)), light(painted([...behind, getComputedStyle(element).color]))];
    return (Math.max(ground, text) + 0.05) / (Math.min(ground, text) + 0.05);
}"""


def _wait(api: AirflowApi, runs: Mapping[str, str]) -> None:
    for dag_id, run_id in runs.items():
        api.wait_run(dag_id, run_id, timeout_seconds=RUN_SECONDS)
        ends = {task["task_id"]: task["state"] for task in api.task_instances(dag_id, run_id)}
        odd = [name for name, state in ends.items() if state != ("failed" if name == MODERATED_TASK else "success")]
        if odd:
            message = f"Of {dag_id} {odd} ended as {ends}; the log of the first:\n{api.log(dag_id, run_id, odd[0])}"
            raise RuntimeError(message)
