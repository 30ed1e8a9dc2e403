# SPDX-License-Identifier: Apache-2.0
"""Retry, clear and force_new: what finds the earlier generation again, and what begins a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bfl.exceptions import BflObjectExistsError, BflStaleStateError
from tests.airflow_fixtures import LogRecorder, World


def downloads(bfl: World) -> int:
    return len(bfl.simulator.ledger.of_role("delivery"))


class TestAClearAfterSuccess:
    def test_pays_nothing_and_returns_the_stored_result(self, bfl: World, deferrable: bool) -> None:
        run = bfl.generation(deferrable=deferrable)
        first = run.attempt()
        run.clear()

        assert run.attempt() == {**first, "reattached": True}
        assert bfl.posts_received == 1
        assert downloads(bfl) == 1

    @pytest.mark.parametrize("loss", ["deleted", "cut short"])
    def test_lands_again_where_the_object_is_not_what_was_stored(self, bfl: World, deferrable: bool, loss: str) -> None:
        run = bfl.generation(deferrable=deferrable)
        stored = bfl.path_of(run.attempt())
        whole = stored.read_bytes()
        stored.unlink() if loss == "deleted" else stored.write_bytes(whole[:100])
        run.clear()

        result = run.attempt()

        assert bfl.path_of(result).read_bytes() == whole
        assert bfl.posts_received == 1

    @pytest.mark.parametrize(("before", "after"), [("one.jpg", "two.jpg"), ("one/", "two/"), ("one.jpg", "two/")])
    def test_lands_where_the_destination_is_now(self, bfl: World, before: str, after: str) -> None:
        run = bfl.generation(destination=f"{bfl.destination}{before}")
        first = bfl.path_of(run.attempt())
        run.make = bfl.generation(destination=f"{bfl.destination}{after}").make
        run.clear()

        result = run.attempt()

        assert result["uri"].startswith(f"{bfl.destination}{after}")
        assert bfl.path_of(result).read_bytes() == first.read_bytes()
        assert bfl.posts_received == 1

    def test_of_a_submit_returns_the_same_generation(self, bfl: World) -> None:
        run = bfl.generation(wait_for_completion=False, destination=None)
        first = run.attempt()
        run.clear()

        assert run.attempt() == {**first, "reattached": True}
        assert run.xcom["polling_url"] == first["polling_url"]
        assert bfl.posts_received == 1


class TestForceNew:
    @pytest.mark.parametrize("value", [True, "True", "1", "yes"])
    def test_generates_anew_once_for_each_clear(self, bfl: World, deferrable: bool, value: Any) -> None:
        run = bfl.generation(deferrable=deferrable, force_new=value)
        ids = [run.attempt()["id"]]
        for _ in range(2):
            run.clear()
            ids.append(run.attempt()["id"])
            assert run.attempt()["id"] == ids[-1], "a retry of the forced attempt re-attaches"

        assert len(set(ids)) == 3
        assert bfl.posts_received == 3

    @pytest.mark.parametrize("value", [False, "False", "", "None", "0"])
    def test_unset_never_does(self, bfl: World, value: Any) -> None:
        run = bfl.generation(force_new=value)
        run.attempt()
        run.clear()
        run.attempt()

        assert bfl.posts_received == 1

    def test_does_not_make_a_plain_retry_pay(self, bfl: World, deferrable: bool) -> None:
        run = bfl.generation(deferrable=deferrable, force_new=True)
        run.attempt()

        assert run.attempt()["reattached"] is True
        assert bfl.posts_received == 1


class TestARequestThatChanged:
    CHANGES: tuple[dict[str, Any], ...] = (
        {"prompt": "a blue fox"},
        {"model": "flux-2-flex"},
        {"parameters": {"seed": 7}},
        {"bfl_conn_id": "bfl_other"},
    )

    @pytest.fixture
    def changed(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> Any:
        """A run whose request is another one after its first attempt."""
        monkeypatch.setenv("AIRFLOW_CONN_BFL_OTHER", bfl.simulator.connection_json())

        def after_first_attempt(change: dict[str, Any], **arguments: Any) -> Any:
            run = bfl.generation(**arguments)
            run.attempt()
            run.make = bfl.generation(**arguments | change).make
            return run

        return after_first_attempt

    @pytest.mark.parametrize("change", CHANGES)
    def test_is_submitted_with_a_warning(
        self, bfl: World, changed: Any, change: dict[str, Any], log: LogRecorder
    ) -> None:
        result = changed(change).attempt()

        assert bfl.posts_received == 2
        assert (result["reattached"], result["possibly_billed_twice"]) == (False, False)
        assert len(log.about("is abandoned and a new one is submitted")) == 1

    @pytest.mark.parametrize("change", CHANGES)
    def test_is_refused_where_that_is_wanted(self, bfl: World, changed: Any, change: dict[str, Any]) -> None:
        run = changed(change, on_stale_state="fail")

        with pytest.raises(BflStaleStateError, match="billed for another request") as refused:
            run.attempt()

        assert isinstance(refused.value, AirflowFailException)
        assert bfl.posts_received == 1

    @pytest.mark.parametrize(
        "change", [{"timeout": 60.0}, {"deferrable": True}, {"poll_interval": 0.03}, {"if_exists": "skip"}]
    )
    def test_is_not_what_only_the_handling_has_changed_of(
        self, bfl: World, changed: Any, change: dict[str, Any]
    ) -> None:
        assert changed(change, on_stale_state="fail").attempt()["reattached"] is True
        assert bfl.posts_received == 1


class TestWithoutTheJournal:
    def test_a_retry_pays_again_as_documented(self, bfl: World, deferrable: bool) -> None:
        run = bfl.generation(deferrable=deferrable, durable=False)
        run.attempt()

        assert run.attempt()["reattached"] is False
        assert bfl.posts == 2
        assert run.store.values == {}

    def test_a_deferral_is_still_gone_on_with(self, bfl: World) -> None:
        run = bfl.generation(deferrable=True, durable=False)

        assert bfl.path_of(run.attempt()).exists()
        assert bfl.posts == 1

    def test_an_airflow_that_has_none_says_so_once(self, bfl: World, log: LogRecorder) -> None:
        from airflow_provider_bfl.durable import journal

        journal._warn_once.cache_clear()
        for _ in range(2):
            bfl.generation(store=None).attempt()

        assert len(log.about("Set journal_path")) == 1


class TestMappedTasks:
    def test_have_a_generation_each(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__BFL__JOURNAL_PATH", f"file://{bfl.root}/journal")
        runs = [bfl.generation(store=None, ti={"map_index": index}) for index in range(2)]

        results = [run.attempt() for run in runs]
        again = [run.attempt() for run in runs]

        assert len({result["uri"] for result in results}) == 2
        assert [result["id"] for result in again] == [result["id"] for result in results]
        assert bfl.posts_received == 2


class TestAnObjectThatIsAlreadyThere:
    @pytest.fixture
    def taken(self, bfl: World) -> Path:
        """Somebody else's object under the full name."""
        path = bfl.root / "landed" / "cat.jpg"
        path.parent.mkdir()
        path.write_bytes(b"somebody else's")
        return path

    def test_is_kept_and_nothing_is_paid_with_skip(self, bfl: World, taken: Path, deferrable: bool) -> None:
        run = bfl.generation(destination=f"file://{taken}", if_exists="skip", deferrable=deferrable)

        result = run.attempt()

        assert (result["uri"], result["size"], result["id"]) == (f"file://{taken}", 15, None)
        assert bfl.posts_received == 0
        assert taken.read_bytes() == b"somebody else's"

    def test_is_an_error_before_anything_is_paid_with_error(self, bfl: World, taken: Path, deferrable: bool) -> None:
        run = bfl.generation(destination=f"file://{taken}", if_exists="error", deferrable=deferrable)

        with pytest.raises(BflObjectExistsError, match="Nothing was submitted"):
            run.attempt()

        assert bfl.posts_received == 0

    def test_is_replaced_with_overwrite(self, bfl: World, taken: Path) -> None:
        result = bfl.generation(destination=f"file://{taken}", if_exists="overwrite").attempt()

        assert taken.stat().st_size == result["size"] > 15
        assert bfl.posts_received == 1

    @pytest.mark.parametrize("if_exists", ["overwrite", "skip", "error"])
    def test_does_not_matter_below_a_directory_where_every_generation_has_its_own_name(
        self, bfl: World, if_exists: str
    ) -> None:
        results = [bfl.generation(if_exists=if_exists).attempt() for _ in range(2)]

        assert len({result["uri"] for result in results}) == 2
        assert bfl.posts_received == 2

    @pytest.mark.parametrize("if_exists", ["skip", "error"])
    @pytest.mark.parametrize("name", ["cat.jpg", ""])
    def test_with_the_very_bytes_is_a_success_for_the_retry_that_stores_them_again(
        self, bfl: World, if_exists: str, name: str
    ) -> None:
        run = bfl.generation(destination=f"{bfl.destination}{name}", if_exists=if_exists)
        run.store.before_set = self._forget_the_last_record
        first = run.attempt()

        result = run.attempt()

        assert (result["uri"], result["sha256"]) == (first["uri"], first["sha256"])
        assert bfl.posts_received == 1

    def _forget_the_last_record(self, value: Any) -> None:
        if value["state"] == "stored":
            raise ConnectionError("the metadata database is away")
