# SPDX-License-Identifier: Apache-2.0
"""One Airflow and one browser for all of them; without playwright (`make browser` has it) none of them is there."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.browser.stage import Stage, Visitors

collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    from tests.browser.stage import staged

    with staged(tmp_path_factory.mktemp("browser")) as ready:
        yield ready


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import expect

    from tests.browser.chromium import chromium
    from tests.browser.stage import WAIT_MS

    expect.set_options(timeout=WAIT_MS)
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def visitors(stage: Stage, browser: Browser) -> Visitors:
    from tests.browser.stage import Visitors

    return Visitors(stage, browser)


@pytest.fixture
def errors() -> list[str]:
    """What the page itself complained about."""
    return []


@pytest.fixture
def page(visitors: Visitors, errors: list[str]) -> Iterator[Page]:
    """A page of the administrator's; a test fails when a script of the page does."""
    visited = visitors.page()
    visited.unroute_all(behavior="ignoreErrors")

    def note(error: object) -> None:
        errors.append(str(error))

    visited.on("pageerror", note)
    yield visited
    visited.remove_listener("pageerror", note)
    assert errors == []
