# SPDX-License-Identifier: Apache-2.0
"""Where the record lives between attempts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from uuid import uuid4

import pytest

from airflow_provider_bfl.durable import journal as journal_module
from airflow_provider_bfl.durable.journal import (
    Journal,
    ObjectStorageJournal,
    TaskStateJournal,
    XComJournal,
    open_journal,
    task_identity,
)
from airflow_provider_bfl.durable.record import Record
from airflow_provider_bfl.exceptions import BflJournalError
from tests.storage_servers import S3Server

from .conftest import record

IDENTITY = {"dag_id": "d", "run_id": "manual__2026-01-01T00:00:00+00:00", "task_id": "g.t", "map_index": -1}


class StateStore:
    """Airflow's task state store as documented: JSON values by key, None for what is not there, never a None value."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        if value is None:
            raise ValueError("Cannot set value as None")
        self.values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


class TaskInstance(SimpleNamespace):
    """A task instance's XCom as documented: JSON values by key."""

    def __init__(self, **identity: Any) -> None:
        super().__init__(**(IDENTITY | identity))
        self.values: dict[str, str] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        assert value is not None, "Airflow 3.0 refuses a null"
        self.values[key] = json.dumps(value)

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return json.loads(self.values[key]) if key in self.values else None


@pytest.fixture
def in_files(tmp_path: Path) -> Journal:
    return ObjectStorageJournal(f"file://{tmp_path}/deep/journal", IDENTITY)


@pytest.fixture
def in_memory() -> Journal:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        ObjectStoragePath("memory://x/y").exists()
    except ValueError:
        pytest.skip("this Airflow has no memory:// paths")
    return ObjectStorageJournal(f"memory://journal-{uuid4().hex}/deep", IDENTITY)


@pytest.fixture
def in_s3(s3_server: S3Server) -> Journal:
    pytest.importorskip("aiobotocore", reason="s3:// paths need a whole s3fs")
    return ObjectStorageJournal(f"s3://{s3_server.conn_id}@{s3_server.new_bucket()}/deep/journal", IDENTITY)


@pytest.fixture
def in_the_task_state() -> Journal:
    return TaskStateJournal(StateStore())


@pytest.fixture
def in_xcom() -> Journal:
    return XComJournal(TaskInstance())


@pytest.fixture(params=["in_files", "in_memory", "in_s3", "in_the_task_state", "in_xcom"])
def journal(request: pytest.FixtureRequest) -> Journal:
    made: Journal = request.getfixturevalue(request.param)
    return made


class TestEveryJournal:
    def test_has_nothing_at_first(self, journal: Journal) -> None:
        assert journal.load() is None

    @pytest.mark.parametrize("state", ["intent", "refused", "submitted", "stored"])
    def test_brings_back_what_was_written(self, journal: Journal, state: str) -> None:
        journal.save(record(state))
        assert journal.load() == record(state)

    def test_keeps_the_last_of_what_was_written(self, journal: Journal) -> None:
        for state in ("intent", "submitted", "stored", "intent"):
            journal.save(record(state))
            assert journal.load() == record(state)

    def test_forgets_what_was_removed(self, journal: Journal) -> None:
        journal.save(record("submitted"))
        journal.delete()
        assert journal.load() is None
        journal.delete()
        journal.save(record("intent"))
        assert journal.load() == record("intent")

    def test_keeps_odd_text_as_it_is(self, journal: Journal) -> None:
        odd = replace(record("submitted"), model="flux/ä 🦊\n\x00", id="\ud800")
        journal.save(odd)
        assert journal.load() == odd


def broken(*args: Any, **kwargs: Any) -> NoReturn:
    raise PermissionError("denied")


class TestFailuresAreNeverNoRecord:
    @pytest.mark.parametrize(
        "failing", [TaskStateJournal(SimpleNamespace(get=broken, set=broken, delete=broken)),
                    XComJournal(SimpleNamespace(task_id="t", map_index=-1, xcom_pull=broken, xcom_push=broken))],
        ids=["task state", "xcom"],
    )  # fmt: skip
    def test_of_airflows_own_stores(self, failing: Journal) -> None:
        for call in (failing.load, lambda: failing.save(record()), failing.delete):
            with pytest.raises(BflJournalError, match="denied"):
                call()

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"\xff\xfe", b"null", b"[]", b"{}", b'{"record": null}', b'{"record": {"version": 99}}']
    )
    def test_of_a_file_that_cannot_be_read(self, tmp_path: Path, content: bytes) -> None:
        journal = ObjectStorageJournal(f"file://{tmp_path}", IDENTITY)
        journal.save(record("submitted"))
        (path,) = tmp_path.iterdir()
        path.write_bytes(content)
        with pytest.raises(BflJournalError, match=r"[Nn]othing was submitted"):
            journal.load()

    def test_of_a_file_that_is_a_directory(self, tmp_path: Path) -> None:
        journal = ObjectStorageJournal(f"file://{tmp_path}", IDENTITY)
        journal.save(record("submitted"))
        (path,) = tmp_path.iterdir()
        path.unlink()
        path.mkdir()
        with pytest.raises(BflJournalError):
            journal.load()

    def test_of_a_root_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "root").write_text("x")
        journal = ObjectStorageJournal(f"file://{tmp_path}/root", IDENTITY)
        with pytest.raises(BflJournalError):
            journal.save(record())

    @pytest.mark.parametrize("root", ["nosuch://bucket/x", "s3://no_such_connection@bucket/x"])
    def test_of_a_root_that_nobody_knows(self, root: str) -> None:
        journal = ObjectStorageJournal(root, IDENTITY)
        for call in (journal.load, lambda: journal.save(record()), journal.delete):
            with pytest.raises(BflJournalError):
                call()

    @pytest.mark.parametrize(
        ("status", "code"), [("403 Forbidden", "AccessDenied"), ("500 Oops", "InternalError"), ("503 Busy", "SlowDown")]
    )
    def test_of_an_object_store(self, in_s3: Journal, s3_server: S3Server, status: str, code: str) -> None:
        in_s3.save(record("submitted"))
        s3_server.door.fail(50, status, code, when=lambda environ: environ["REQUEST_METHOD"] in {"GET", "HEAD"})
        with pytest.raises(BflJournalError, match="nothing was submitted"):
            in_s3.load()
        s3_server.door.clear()
        assert in_s3.load() == record("submitted")

    def test_of_a_bucket_that_is_not_there_make_none(self, s3_server: S3Server) -> None:
        pytest.importorskip("aiobotocore", reason="s3:// paths need a whole s3fs")
        journal = ObjectStorageJournal(f"s3://{s3_server.conn_id}@no-such-bucket-{uuid4().hex[:8]}/x", IDENTITY)
        before = s3_server.client.list_buckets()["Buckets"]
        with pytest.raises(BflJournalError):
            journal.save(record())
        assert s3_server.client.list_buckets()["Buckets"] == before


class TestObjectsInStorage:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"dag_id": "a", "task_id": "b_c"}, {"dag_id": "a_b", "task_id": "c"}),
            ({"dag_id": "a", "run_id": "b_c"}, {"dag_id": "a_b", "run_id": "c"}),
            ({"dag_id": "a", "run_id": "b/c"}, {"dag_id": "a/b", "run_id": "c"}),
            ({"map_index": -1}, {"map_index": 1}),
            ({"map_index": 1}, {"map_index": 11}),
            ({"task_id": "t", "map_index": 12}, {"task_id": "t1", "map_index": 2}),
            ({"run_id": "r:1"}, {"run_id": "r_1"}),
            ({"task_id": "T"}, {"task_id": "t"}),
        ],
    )
    def test_of_two_task_instances_are_two(self, tmp_path: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
        first = ObjectStorageJournal(f"file://{tmp_path}", IDENTITY | one)
        second = ObjectStorageJournal(f"file://{tmp_path}", IDENTITY | other)
        first.save(record("submitted"))
        assert second.load() is None
        second.save(record("stored"))
        assert first.load() == record("submitted")
        assert len(list(tmp_path.iterdir())) == 2

    @pytest.mark.parametrize(
        "name", ["../../etc/passwd", "/etc/passwd", "..", "a/../../b", "x\x00y", "C:\\x", "ä 🦊", "x" * 500, "?#%2f"]
    )
    def test_stay_below_their_root(self, tmp_path: Path, name: str) -> None:
        root = tmp_path / "root"
        journal = ObjectStorageJournal(
            f"file://{root}", dict.fromkeys(("dag_id", "run_id", "task_id"), name) | {"map_index": 0}
        )
        journal.save(record("submitted"))
        assert journal.load() == record("submitted")
        assert [path.parent for path in tmp_path.rglob("*.json")] == [root]

    def test_are_found_again_by_another_try(self, tmp_path: Path) -> None:
        ti = TaskInstance(try_number=1)
        ObjectStorageJournal(f"file://{tmp_path}", task_identity({"ti": ti})).save(record("submitted"))  # type: ignore[typeddict-item]
        ti.try_number = 2
        again = ObjectStorageJournal(f"file://{tmp_path}/", task_identity({"ti": ti}))  # type: ignore[typeddict-item]
        assert again.load() == record("submitted")

    def test_say_whose_they_are(self, tmp_path: Path) -> None:
        ObjectStorageJournal(f"file://{tmp_path}", IDENTITY).save(record("submitted"))
        (path,) = tmp_path.iterdir()
        assert json.loads(path.read_text())["task_instance"] == IDENTITY

    def test_of_a_crash_while_writing_leave_the_former_record(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        journal = ObjectStorageJournal(f"file://{tmp_path}", IDENTITY)
        journal.save(record("submitted"))
        real = ObjectStoragePath.write_text

        def dies_halfway(path: Any, text: str, *args: Any, **kwargs: Any) -> NoReturn:
            real(path, text[: len(text) // 2])
            raise KeyboardInterrupt

        monkeypatch.setattr(ObjectStoragePath, "write_text", dies_halfway)
        with pytest.raises(KeyboardInterrupt):
            journal.save(record("stored"))
        monkeypatch.undo()
        assert journal.load() == record("submitted")
        journal.save(record("stored"))
        assert journal.load() == record("stored")

    def test_in_files_leave_nothing_beside_the_record(self, tmp_path: Path) -> None:
        journal = ObjectStorageJournal(f"file://{tmp_path}", IDENTITY)
        journal.save(record("intent"))
        journal.save(record("submitted"))
        assert [path.suffix for path in tmp_path.iterdir()] == [".json"]

    def test_in_s3_are_written_by_one_request(self, in_s3: Journal, s3_server: S3Server) -> None:
        in_s3.save(record("submitted"))
        written = [method for method, _, _ in s3_server.door.requests if method in {"PUT", "POST"}]
        assert written == ["PUT", "PUT"], "the bucket of this test, then the record"


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    journal_module._warn_once.cache_clear()
    return lambda path: monkeypatch.setenv("AIRFLOW__BFL__JOURNAL_PATH", path)


class TestTheJournalOfATask:
    def opened(self, *, durable: bool = True, **context: Any) -> Journal:
        return open_journal({"ti": TaskInstance()} | context, durable=durable)  # type: ignore[arg-type]

    def test_is_airflows_task_state_where_there_is_one(self, configure: Callable[[str], None], tmp_path: Path) -> None:
        configure(f"file://{tmp_path}")
        assert isinstance(self.opened(task_state_store=StateStore()), TaskStateJournal)

    def test_of_a_task_that_submitted_before_the_upgrade_is_moved(
        self, configure: Callable[[str], None], tmp_path: Path
    ) -> None:
        configure(f"file://{tmp_path}")
        store = StateStore()
        self.opened().save(record("submitted"))

        assert self.opened(task_state_store=store).load() == record("submitted")

        assert list(tmp_path.iterdir()) == []
        assert TaskStateJournal(store).load() == record("submitted")

    def test_of_before_the_upgrade_is_kept_until_it_is_moved(
        self, configure: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        configure(f"file://{tmp_path}")
        self.opened().save(record("submitted"))
        broken = StateStore()
        monkeypatch.setattr(broken, "set", lambda key, value: 1 / 0)

        with pytest.raises(BflJournalError):
            self.opened(task_state_store=broken).load()

        assert self.opened(task_state_store=StateStore()).load() == record("submitted")

    def test_of_before_the_upgrade_never_wins_over_a_newer_one(
        self, configure: Callable[[str], None], tmp_path: Path
    ) -> None:
        configure(f"file://{tmp_path}")
        store = StateStore()
        self.opened().save(record("submitted"))
        TaskStateJournal(store).save(record("stored"))
        assert self.opened(task_state_store=store).load() == record("stored")

    def test_is_in_object_storage_on_an_older_airflow(self, configure: Callable[[str], None], tmp_path: Path) -> None:
        configure(f"file://{tmp_path}")
        self.opened().save(record("submitted"))
        assert self.opened().load() == record("submitted")
        assert len(list(tmp_path.iterdir())) == 1

    def test_is_in_xcom_otherwise_with_one_warning(
        self, configure: Callable[[str], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        configure("")
        assert isinstance(self.opened(), XComJournal)
        assert isinstance(self.opened(), XComJournal)
        warned = [each for each in caplog.records if each.levelno == logging.WARNING]
        assert len(warned) == 1
        assert "journal_path" in warned[0].getMessage()

    def test_is_in_xcom_without_a_warning_when_the_user_wants_no_more(
        self, configure: Callable[[str], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        configure(f"file://{tmp_path}")
        assert isinstance(self.opened(durable=False, task_state_store=StateStore()), XComJournal)
        assert caplog.records == []

    def test_holds_no_secret(self) -> None:
        store = StateStore()
        TaskStateJournal(store).save(record("stored"))
        assert set(Record.__dataclass_fields__).isdisjoint({"api_key", "key", "prompt", "sample"})
