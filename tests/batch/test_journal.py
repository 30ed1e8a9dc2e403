# SPDX-License-Identifier: Apache-2.0
"""The manifest between attempts: owned by one of them, read whole or not at all, never lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_provider_bfl.batch.journal import Manifest
from airflow_provider_bfl.batch.rows import Owner, Row
from airflow_provider_bfl.batch.segments import Segment
from airflow_provider_bfl.batch.table import Table
from airflow_provider_bfl.exceptions import BflBatchTakenOverError, BflConfigError, BflJournalError
from airflow_provider_bfl.landing import Target, open_target
from airflow_provider_bfl.landing.files import FileStore
from airflow_provider_bfl.landing.store import StoreFaultError
from tests.batch.runs import hasten, read_lines

OWNER = Owner("d", "r", "t")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return open_target(f"file://{tmp_path}/out/")


class Attempts:
    """Attempts on one manifest, each with a table of its own."""

    def __init__(self, target: Target, root: Path) -> None:
        self._target = target
        self._root = root
        self._tables: list[Table] = []

    def begin(self, owner: Owner = OWNER, *, adopt: bool = False) -> tuple[Manifest, Table]:
        scratch = self._root / f"scratch-{len(self._tables)}"
        scratch.mkdir()
        table = Table(scratch, owner)
        self._tables.append(table)
        manifest = Manifest(self._target, table)
        manifest.open(adopt=adopt)
        return manifest, table

    def close(self) -> None:
        for table in self._tables:
            table.close()


@pytest.fixture
def attempts(target: Target, tmp_path: Path) -> Iterator[Attempts]:
    all_of_them = Attempts(target, tmp_path)
    yield all_of_them
    all_of_them.close()


def row(item: str, attempt: int, status: str = "stored", owner: Owner = OWNER) -> Row:
    return Row(
        item=item,
        position=int(item),
        status=status,  # type: ignore[arg-type]
        fingerprint="f",
        model="m",
        attempt=attempt,
        dag_id=owner.dag_id,
        run_id=owner.run_id,
        task_id=owner.task_id,
        id=f"gen-{item}",
        polling_url="https://api.bfl.ai/v1/get_result",
    )


def write(manifest: Manifest, *rows: Row, before_posts: bool = False) -> None:
    manifest.write(b"".join(each.to_line() for each in rows), before_posts=before_posts)


class TestEveryStore:
    @pytest.fixture(params=["s3", "gs"])
    def target(self, request: pytest.FixtureRequest) -> Target:
        server = request.getfixturevalue({"s3": "s3_server", "gs": "gcs_server"}[request.param])
        return open_target(f"{request.param}://{server.new_bucket()}/out/", storage_conn_id=server.conn_id)

    def test_gives_back_every_line_of_an_interrupted_attempt(self, attempts: Attempts) -> None:
        first, _ = attempts.begin()
        # More than any client reads at once, so that lines lie across what it reads.
        write(first, *(row(str(number), 1, "intent") for number in range(200)))
        write(first, *(row(str(number), 1, "submitted") for number in range(200)))

        _, table = attempts.begin()

        assert [(each.item, each.status) for each in table.rows()] == [
            (str(number), "submitted") for number in range(200)
        ]

    def test_gives_back_every_row_of_a_manifest(self, attempts: Attempts) -> None:
        first, table = attempts.begin()
        for number in range(200):
            table.put(row(str(number), 1))
        first.close()

        _, table = attempts.begin()

        assert [each.item for each in table.rows()] == [str(number) for number in range(200)]


class TestAnInterruptedAttempt:
    def test_is_gone_on_with_from_its_last_write(self, attempts: Attempts) -> None:
        first, _ = attempts.begin()
        write(first, row("0", 1, "intent"), row("1", 1, "intent"))
        write(first, row("0", 1, "submitted"))

        second, table = attempts.begin()

        assert second.signature.attempt == 2
        assert [(each.item, each.status) for each in table.rows()] == [("0", "submitted"), ("1", "intent")]

    def test_in_the_middle_of_its_end_loses_nothing(self, attempts: Attempts, tmp_path: Path) -> None:
        first, table = attempts.begin()
        for number in range(5):
            write(first, row(str(number), 1))
            table.put(row(str(number), 1))
        journal = tmp_path / "out" / "manifest.jsonl.d"
        before = {path.name: path.read_bytes() for path in journal.iterdir()}
        first.close()
        # Killed when the two oldest segments were removed.
        journal.mkdir()
        for name in sorted(before)[2:]:
            (journal / name).write_bytes(before[name])

        _, table = attempts.begin()

        assert [each.item for each in table.rows()] == ["0", "1", "2", "3", "4"]

    def test_whose_beginning_is_lost_is_never_gone_on_with(self, attempts: Attempts, tmp_path: Path) -> None:
        first, _ = attempts.begin()
        for number in range(3):
            write(first, row(str(number), 1))
        (tmp_path / "out" / "manifest.jsonl.d" / Segment(0, 0).name).unlink()

        with pytest.raises(BflJournalError, match="lacks its beginning"):
            attempts.begin()

    @pytest.mark.parametrize("name", ["manifest.jsonl", "manifest.jsonl.d/owner.json"])
    def test_that_cannot_be_read_is_never_no_attempt(self, attempts: Attempts, tmp_path: Path, name: str) -> None:
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row("0", 1).to_line()[:40])

        with pytest.raises(BflJournalError, match="othing was submitted"):
            attempts.begin()

    def test_on_a_store_that_is_away_is_never_no_attempt(
        self, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stat(self: FileStore, key: str) -> None:
            raise StoreFaultError("away", permanent=False)

        monkeypatch.setattr(FileStore, "stat", stat)
        with pytest.raises(BflJournalError, match="nothing was submitted"):
            attempts.begin()


class TestTwoAttemptsAtOnce:
    def test_the_older_stops_before_its_next_post(self, attempts: Attempts) -> None:
        older, _ = attempts.begin()
        write(older, row("0", 1, "intent"), before_posts=True)
        newer, _ = attempts.begin()

        with pytest.raises(BflBatchTakenOverError):
            write(older, row("1", 1, "intent"), before_posts=True)
        write(newer, row("2", 2, "intent"), before_posts=True)

    def test_the_older_stops_even_after_the_newer_is_done(self, attempts: Attempts, tmp_path: Path) -> None:
        older, _ = attempts.begin()
        newer, table = attempts.begin()
        write(newer, row("0", 2))
        table.put(row("0", 2))
        newer.close()

        with pytest.raises(BflBatchTakenOverError):
            write(older, row("0", 1, "intent"), before_posts=True)
        _, table = attempts.begin()
        assert [each.status for each in table.rows()] == ["stored"]

    def test_the_older_never_closes_the_newers_manifest(self, attempts: Attempts, tmp_path: Path) -> None:
        older, _ = attempts.begin()
        newer, _ = attempts.begin()
        write(newer, row("0", 2))

        with pytest.raises(BflBatchTakenOverError):
            older.close()
        assert not (tmp_path / "out" / "manifest.jsonl").exists()
        assert [each.item for each in attempts.begin()[1].rows()] == ["0"]

    def test_what_the_older_wrote_too_late_never_counts(self, attempts: Attempts) -> None:
        newer_row, stale_row = row("0", 2), row("0", 1, "intent")
        _, table = attempts.begin()
        table.put(newer_row)
        table.put(stale_row)

        assert [each.status for each in table.rows()] == ["stored"]

    def test_an_own_write_that_seemed_to_fail_takes_its_number(
        self, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manifest, _ = attempts.begin()
        really_put = FileStore.put

        def put(self: FileStore, key: str, contents: object, *, create_only: bool) -> None:
            really_put(self, key, contents, create_only=create_only)  # type: ignore[arg-type]
            raise StoreFaultError("the answer was lost", permanent=True)

        with monkeypatch.context() as patch:
            patch.setattr(FileStore, "put", put)
            with pytest.raises(BflJournalError):
                write(manifest, row("0", 1))
        write(manifest, row("1", 1))

        assert [each.item for each in attempts.begin()[1].rows()] == ["0", "1"]


class TestAnotherBatchsManifest:
    def test_is_an_error_and_stays_as_it_is(self, attempts: Attempts, tmp_path: Path) -> None:
        first, table = attempts.begin()
        table.put(row("0", 1))
        first.close()

        with pytest.raises(BflConfigError, match=r"d / r / t.*run_id"):
            attempts.begin(Owner("d", "another", "t"))
        assert len(read_lines(tmp_path / "out" / "manifest.jsonl")) == 1

    def test_that_is_being_written_is_an_error_in_any_case(self, attempts: Attempts) -> None:
        attempts.begin()
        for adopt in (False, True):
            with pytest.raises(BflConfigError, match="run_id"):
                attempts.begin(Owner("d", "another", "t"), adopt=adopt)

    def test_may_be_gone_on_with_and_keeps_its_rows(self, attempts: Attempts, tmp_path: Path) -> None:
        first, table = attempts.begin()
        table.put(row("0", 1))
        first.close()
        other = Owner("d", "another", "t")
        second, table = attempts.begin(other, adopt=True)
        table.put(row("0", 2, owner=other))
        second.close()

        assert [line["run_id"] for line in read_lines(tmp_path / "out" / "manifest.jsonl")] == ["r", "another"]


class TestTheManifest:
    def test_is_one_row_per_item_in_order_and_alone(self, attempts: Attempts, tmp_path: Path) -> None:
        manifest, table = attempts.begin()
        for number in (2, 0, 1):
            for status in ("intent", "submitted", "stored"):
                write(manifest, replace(row(str(number), 1), status=status))  # type: ignore[arg-type]
                table.put(replace(row(str(number), 1), status=status))  # type: ignore[arg-type]
        manifest.close()

        lines = read_lines(tmp_path / "out" / "manifest.jsonl")
        assert [(line["item"], line["status"]) for line in lines] == [(str(each), "stored") for each in range(3)]
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.jsonl"]

    def test_is_read_by_pandas_and_the_like(self, attempts: Attempts, tmp_path: Path) -> None:
        manifest, table = attempts.begin()
        for number in range(3):
            table.put(row(str(number), 1))
        manifest.close()

        assert len({tuple(line) for line in read_lines(tmp_path / "out" / "manifest.jsonl")}) == 1
