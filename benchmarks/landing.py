# SPDX-License-Identifier: Apache-2.0
"""
A body of half a gigabyte on its way into a store: how fast, and in how much memory.

Each operator's ``execute`` is timed, after a small body has brought the imports and connections along. The store is
one that keeps nothing, so that it is never waited for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from benchmarks import processes
from benchmarks.results import Finding

TITLE = "Landing: a large body"

_MODEL = "flux-3-video"
_KEY = "clips/clip.mp4"

#: S3 over https signs no payload; on plain loopback botocore would read every body once more for it.
_S3_OPTIONS = {"s3": {"payload_signing_enabled": False, "addressing_style": "path"}}

_STORES = {
    "S3": ("to_s3", "http_to_s3", "HttpToS3Operator"),
    "Google Cloud Storage": ("to_gcs", "http_to_gcs", "HttpToGCSOperator"),
    "a local file": ("to_file", "requests_to_file", "requests into a file, nothing checked"),
}


def measure(*, tiny: bool, runs: int) -> list[Finding]:
    """Return speed and growth of the resident set for each store, against the operator one would use otherwise."""
    size = 12_000_000 if tiny else 500_000_000
    with processes.simulator() as bfl, processes.server("benchmarks.sinks") as sink:

        def run(variant: str) -> processes.Numbers:
            (small,) = bfl.submit(1, _MODEL, latency_seconds=0.0, body_bytes=10_000_000)
            (large,) = bfl.submit(1, _MODEL, latency_seconds=0.0, body_bytes=size)
            arguments = {
                "variant": variant,
                "urls": [small["polling_url"], large["polling_url"]],
                "server": sink.pid,
                "deliverer": bfl.server.pid,
            }
            return processes.measured("benchmarks.landing", arguments, _connections(bfl, sink.announced["url"]))

        names = [name for own, other, _ in _STORES.values() for name in (own, other)]
        told = processes.in_turns({name: partial(run, name) for name in names}, runs)
    return [finding for store in _STORES for finding in _findings(store, told, size, runs, tiny=tiny)]


def _findings(
    store: str, told: dict[str, list[processes.Numbers]], size: int, runs: int, *, tiny: bool
) -> list[Finding]:
    own, other, shown = _STORES[store]
    speeds = [size / 1e6 / processes.median(told[name], "wall") for name in (own, other)]
    growths = [processes.median(told[name], "growth_mb") for name in (own, other)]
    seconds = [processes.median(told[name], "cpu") for name in (own, other)]
    busy = max(each["server"] for each in told[own] + told[other])
    deliverer = max(each["deliverer"] for each in told[own] + told[other])
    where, goal = f"{size / 1e6:,.0f} MB to {store}", None if store == "a local file" else 1.0
    note = f"the store used at most {busy:.0%} of a processor, the delivery host {deliverer:.0%}"
    return [
        Finding(f"{where}: speed", speeds[0], "MB/s", speeds[1], shown, goal=goal, bound="least", runs=runs, note=note),
        Finding(f"{where}: processor time", seconds[0], "s", seconds[1], shown, runs=runs),
        Finding(
            f"{where}: growth of memory", growths[0], "MB", growths[1], shown, goal=None if tiny else 64.0,
            judged="value", runs=runs,
        ),
    ]  # fmt: skip


def _connections(bfl: processes.Bfl, store: str) -> dict[str, str]:
    aws = {"endpoint_url": store, "region_name": "us-east-1", "config_kwargs": _S3_OPTIONS}
    google = {"is_anonymous": True, "project": "bench"}
    return {
        **bfl.env,
        "STORAGE_EMULATOR_HOST": store,
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps({"conn_type": "aws", "login": "AK", "password": "SK", "extra": aws}),
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps({"conn_type": "google_cloud_platform", "extra": google}),
        "AIRFLOW_CONN_DELIVERY": bfl.client.addresses["delivery:eu"],
    }


def to_s3(polling_url: str) -> Any:
    """Return this provider's transfer to S3."""
    from airflow_provider_bfl.transfers.bfl_to_s3 import BflToS3Operator

    return BflToS3Operator(task_id="land", polling_url=polling_url, s3_bucket="bench", s3_key=_KEY)


def to_gcs(polling_url: str) -> Any:
    """Return this provider's transfer to Google Cloud Storage."""
    from airflow_provider_bfl.transfers.bfl_to_gcs import BflToGCSOperator

    return BflToGCSOperator(task_id="land", polling_url=polling_url, bucket_name="bench", object_name=_KEY)


def to_file(polling_url: str) -> Any:
    """Return this provider's transfer to a file."""
    from airflow_provider_bfl.transfers.bfl_to_object_storage import BflToObjectStorageOperator

    return BflToObjectStorageOperator(
        task_id="land", polling_url=polling_url, destination=f"file://{Path.cwd()}/{_KEY}"
    )


def http_to_s3(polling_url: str) -> Any:
    """Return the amazon provider's operator, told the signed URL."""
    from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator

    return HttpToS3Operator(
        task_id="land",
        http_conn_id="delivery",
        endpoint=_signed(polling_url),
        s3_bucket="bench",
        s3_key=_KEY,
        replace=True,
    )


def http_to_gcs(polling_url: str) -> Any:
    """Return the google provider's operator, told the signed URL."""
    from airflow.providers.google.cloud.transfers.http_to_gcs import HttpToGCSOperator

    return HttpToGCSOperator(
        task_id="land",
        http_conn_id="delivery",
        endpoint=_signed(polling_url),
        bucket_name="bench",
        object_name=_KEY,
        mime_type="video/mp4",
    )


def requests_to_file(polling_url: str) -> Any:
    """Return what a script would do: a streamed GET, copied into a file."""
    import shutil

    import requests

    def execute(context: Any) -> None:
        url = requests.get(polling_url, headers={"x-key": "bfl_simulator_key"}, timeout=30).json()["result"]["sample"]
        with requests.get(url, stream=True, timeout=30) as answer, Path("plain.mp4").open("wb") as file:
            answer.raise_for_status()
            shutil.copyfileobj(answer.raw, file, 256 * 1024)

    return SimpleNamespace(execute=execute)


_MAKERS: dict[str, Callable[[str], Any]] = {
    maker.__name__: maker for maker in (to_s3, to_gcs, to_file, http_to_s3, http_to_gcs, requests_to_file)
}


def _signed(polling_url: str) -> str:
    # Asking for it is left out of the time: the other operator cannot do it.
    from airflow_provider_bfl.hooks.bfl import BflHook

    parts = urlsplit(BflHook().get_result(polling_url).sample or "")
    return f"{parts.path}?{parts.query}"


def _land(arguments: dict[str, Any]) -> processes.Numbers:
    import logging

    logging.disable(logging.INFO)
    ti: Any = SimpleNamespace(dag_id="d", run_id="r", task_id="land", map_index=-1, try_number=1)
    make = _MAKERS[arguments["variant"]]
    small, large = (make(url) for url in arguments["urls"])
    small.execute({"ti": ti})
    time.sleep(0.2)
    busy, deliverer = processes.Busy(arguments["server"]), processes.Busy(arguments["deliverer"])
    with processes.peak_memory() as memory:
        large.execute({"ti": ti})
    return {**busy.so_far(), "deliverer": deliverer.so_far()["server"], **memory}


if __name__ == "__main__":
    processes.tell(_land(processes.arguments()))
