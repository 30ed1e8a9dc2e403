# SPDX-License-Identifier: Apache-2.0
"""What is counted, and that the documentation says the same."""

from __future__ import annotations

import ast
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat import sdk

from airflow_provider_bfl.exceptions import BflAmbiguousSubmitError, BflContentModeratedError, BflGenerationFailedError
from airflow_provider_bfl.metrics import Metric
from airflow_provider_bfl.transfers.bfl_to_object_storage import BflToObjectStorageOperator
from tests.airflow_fixtures import World

ROOT = Path(__file__).parents[1]
CODE = ROOT / "airflow_provider_bfl"


class Recorder:
    """Stands in for Airflow's ``Stats``."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.timings: dict[str, list[float]] = {}
        self.tags: list[Any] = []

    def incr(self, stat: str, count: float = 1, rate: float = 1, *, tags: Any = None) -> None:
        self.counts[stat] += count  # type: ignore[assignment]
        self.tags.append(tags)

    def timing(self, stat: str, dt: timedelta, *, tags: Any = None) -> None:
        self.timings.setdefault(stat, []).append(dt.total_seconds())
        self.tags.append(tags)


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(sdk, "Stats", recorder, raising=False)
    return recorder


class TestTheTableInTheDocs:
    def test_names_every_metric_and_its_kind(self) -> None:
        rows = re.findall(
            r"\* - ``(bfl\.\w+)``\n\s+- (\w+)\n", (ROOT / "docs" / "metrics.rst").read_text(encoding="utf-8")
        )
        assert dict(rows) == {each.value: "timer" if each.value.endswith("_time") else "counter" for each in Metric}
        assert len(rows) == len(Metric)


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.AST]:
    """The code of the provider, by file."""
    return {str(path.relative_to(CODE)): ast.parse(path.read_text()) for path in CODE.rglob("*.py")}


class TestTheCode:
    def test_emits_every_metric(self, trees: dict[str, ast.AST]) -> None:
        used = {
            node.attr
            for tree in trees.values()
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Metric"
        }
        assert used == {each.name for each in Metric}

    def test_emits_nothing_past_the_list(self, trees: dict[str, ast.AST]) -> None:
        importers = {
            name
            for name, tree in trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and any(alias.name == "Stats" for alias in node.names)
        }
        assert importers == {"metrics.py"}


class TestAGeneration:
    def test_that_lands(self, bfl: World, stats: Recorder, deferrable: bool) -> None:
        result = bfl.generation(deferrable=deferrable).attempt()

        assert stats.counts == {
            "bfl.submitted": 1,
            "bfl.cost": result["cost"],
            "bfl.landed": 1,
            "bfl.landed_bytes": result["size"],
        }
        assert set(stats.timings) == {"bfl.queue_time", "bfl.run_time", "bfl.url_age_time"}
        assert stats.timings["bfl.queue_time"] == [0.0]
        assert all(tags == {"model": "flux-2-pro"} for tags in stats.tags)

    def test_that_is_found_again(self, bfl: World, stats: Recorder) -> None:
        run = bfl.generation(wait_for_completion=False, destination=None)
        run.attempt()
        run.attempt()
        assert (stats.counts["bfl.submitted"], stats.counts["bfl.reattached"]) == (1, 1)

    def test_that_waits_for_a_slot(self, bfl: World, stats: Recorder, naps: list[float]) -> None:
        bfl.simulator.fault("submit", status=429, times=2)
        bfl.generation().attempt()
        assert stats.counts["bfl.rate_limited"] == 2
        (queued,) = stats.timings["bfl.queue_time"]
        assert queued > 0

    def test_whose_answer_is_lost(self, bfl: World, stats: Recorder) -> None:
        bfl.simulator.fault("submit", accept=True, drop=True)
        run = bfl.generation()
        with pytest.raises(BflAmbiguousSubmitError):
            run.attempt()
        assert stats.counts == {"bfl.ambiguous": 1}
        run.attempt()
        assert (stats.counts["bfl.possibly_billed_twice"], stats.counts["bfl.submitted"]) == (1, 1)

    @pytest.mark.parametrize(
        ("status", "error", "name"),
        [
            ("Content Moderated", BflContentModeratedError, "bfl.moderated"),
            ("Error", BflGenerationFailedError, "bfl.failed"),
        ],
    )
    def test_that_ends_without_a_result(
        self, bfl: World, stats: Recorder, deferrable: bool, status: str, error: type[Exception], name: str
    ) -> None:
        bfl.simulator.fault("task", final_status=status)
        with pytest.raises(error):
            bfl.generation(deferrable=deferrable).attempt()
        assert (stats.counts[name], stats.counts["bfl.landed"]) == (1, 0)

    def test_that_a_transfer_lands_has_a_tag_where_the_model_is_known(self, bfl: World, stats: Recorder) -> None:
        submitted = bfl.submit()
        stats.tags.clear()
        for generation in (None, submitted):
            bfl.run(
                BflToObjectStorageOperator,
                polling_url=submitted["polling_url"],
                generation=generation,
                destination=bfl.destination,
            ).attempt()
        assert stats.counts["bfl.landed"] == 2
        assert {str(tags) for tags in stats.tags} == {"{}", "{'model': 'flux-2-pro'}"}


class TestAirflowsOwnStats:
    def test_take_what_is_emitted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow_provider_bfl.metrics import count, timing

        count(Metric.COST, model="flux-2-pro", by=2.5)
        count(Metric.LANDED, model=None)
        timing(Metric.RUN_TIME, 7.5, model="flux-tools/erase-v1")
