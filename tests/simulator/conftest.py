# SPDX-License-Identifier: Apache-2.0
"""A simulator whose time only moves when the test moves it, and a client without manners of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from airflow_provider_bfl.simulator import Simulator

#: Longer than any image model takes, shorter than any URL lives.
LONG_ENOUGH_SECONDS = 200


@dataclass
class Bfl:
    """What a client without any library does: plain requests, the polling URL verbatim, no retries."""

    simulator: Simulator
    key: str = "bfl_test_key"

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        return requests.request(method, url, timeout=10, allow_redirects=False, **options)

    def submit(self, model: str = "flux-2-pro", *, base: str | None = None, **fields: Any) -> requests.Response:
        body = {"prompt": "a red kite over dunes"} | fields
        url = f"{base or self.simulator.url}/v1/{model}"
        return self.request("POST", url, json=body, headers={"x-key": self.key})

    def poll(self, submitted: requests.Response) -> requests.Response:
        return self.request("GET", submitted.json()["polling_url"], headers={"x-key": self.key})

    def status(self, submitted: requests.Response) -> str:
        status: str = self.poll(submitted).json()["status"]
        return status

    def let_everything_finish(self) -> None:
        self.simulator.advance(LONG_ENOUGH_SECONDS)

    def sample(self, submitted: requests.Response) -> str:
        """The signed URL of a submitted task, which is made to finish first."""
        self.let_everything_finish()
        url: str = self.poll(submitted).json()["result"]["sample"]
        return url

    def download(self, url: str, **options: Any) -> requests.Response:
        return self.request("GET", url, **options)

    def credits(self) -> float:
        url = f"{self.simulator.url}/v1/credits"
        balance: float = self.request("GET", url, headers={"x-key": self.key}).json()["credits"]
        return balance


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(jitter=0, seed=1, starting_credits=1000) as running:
        yield running


@pytest.fixture
def bfl(simulator: Simulator) -> Bfl:
    return Bfl(simulator)
