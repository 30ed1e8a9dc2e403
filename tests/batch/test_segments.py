# SPDX-License-Identifier: Apache-2.0
"""A log on stores that cannot append: whole, in order, and never many objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bfl.batch.segments import (
    FAN_IN,
    LogTakenError,
    Segment,
    SegmentLog,
    due_merge,
    effective,
    parse_names,
)
from airflow_provider_bfl.exceptions import BflJournalError
from airflow_provider_bfl.landing.files import FileStore
from airflow_provider_bfl.landing.store import StoreFaultError


def log_at(root: Path) -> SegmentLog:
    return SegmentLog(FileStore(), f"{str(root).lstrip('/')}/log/", sleep=lambda seconds: None)


def lines_of(log: SegmentLog) -> list[bytes]:
    found: list[bytes] = []
    found.extend(log.read(found.clear))
    return found


class TestALog:
    def test_gives_back_every_line_in_order(self, tmp_path: Path) -> None:
        writing = log_at(tmp_path)
        for number in range(5):
            writing.append(b"a %d\nb %d\n" % (number, number))

        assert lines_of(log_at(tmp_path)) == [b"%s %d\n" % (name, n) for n in range(5) for name in (b"a", b"b")]

    def test_is_gone_on_with_after_its_last_write(self, tmp_path: Path) -> None:
        log_at(tmp_path).append(b"first\n")
        later = log_at(tmp_path)
        lines_of(later)
        later.append(b"second\n")

        assert lines_of(log_at(tmp_path)) == [b"first\n", b"second\n"]

    def test_with_a_gap_is_never_read(self, tmp_path: Path) -> None:
        writing = log_at(tmp_path)
        for number in range(3):
            writing.append(b"%d\n" % number)
        (tmp_path / "log" / Segment(1, 1).name).unlink()

        with pytest.raises(BflJournalError, match="gap"):
            lines_of(log_at(tmp_path))

    def test_that_another_goes_on_with_is_not_written_over(self, tmp_path: Path) -> None:
        first, second = log_at(tmp_path), log_at(tmp_path)
        second.append(b"second\n")

        with pytest.raises(LogTakenError):
            first.append(b"first\n")
        assert lines_of(log_at(tmp_path)) == [b"second\n"]

    def test_takes_a_write_whose_answer_was_lost_for_its_own(self, tmp_path: Path) -> None:
        log_at(tmp_path).append(b"the same\n")

        assert log_at(tmp_path).append(b"the same\n") == Segment(0, 0)

    def test_tries_again_where_the_store_is_away_for_a_moment(self, tmp_path: Path) -> None:
        store = Moody(failures=2)
        log = SegmentLog(store, f"{str(tmp_path).lstrip('/')}/log/", sleep=lambda seconds: None)
        log.append(b"a line\n")

        assert lines_of(log) == [b"a line\n"]

    def test_says_when_it_cannot_be_written(self, tmp_path: Path) -> None:
        log = SegmentLog(Moody(failures=99), f"{str(tmp_path).lstrip('/')}/log/", sleep=lambda seconds: None)
        with pytest.raises(StoreFaultError):
            log.append(b"a line\n")


class Moody(FileStore):
    """A store that is away for its first few writes."""

    def __init__(self, failures: int) -> None:
        self._failures = failures

    def put(self, key: str, contents: Any, *, create_only: bool) -> None:
        if self._failures:
            self._failures -= 1
            raise StoreFaultError("away", permanent=False)
        super().put(key, contents, create_only=create_only)


class TestMerging:
    def test_keeps_the_number_of_objects_small_and_every_line(self, tmp_path: Path) -> None:
        writing = log_at(tmp_path)
        most = 0
        for number in range(3 * FAN_IN + 5):
            writing.append(b"%d\n" % number)
            if (number + 1) % FAN_IN == 0:
                writing.tidy()
            most = max(most, len(list((tmp_path / "log").iterdir())))

        assert most <= FAN_IN + 3
        assert [segment.width for segment in writing.segments()] == [FAN_IN] * 3 + [1] * 5
        assert lines_of(log_at(tmp_path)) == [b"%d\n" % number for number in range(3 * FAN_IN + 5)]

    def test_that_was_interrupted_loses_nothing_and_repeats_nothing(self, tmp_path: Path) -> None:
        writing = log_at(tmp_path)
        for number in range(FAN_IN):
            writing.append(b"%d\n" % number)
        before = {path.name: path.read_bytes() for path in (tmp_path / "log").iterdir()}
        writing.tidy()
        # Killed before the parts were removed.
        for name in list(before)[::2]:
            (tmp_path / "log" / name).write_bytes(before[name])

        assert lines_of(log_at(tmp_path)) == [b"%d\n" % number for number in range(FAN_IN)]
        log_at(tmp_path).tidy()
        assert len(list((tmp_path / "log").iterdir())) == 1

    def test_merges_what_was_merged(self) -> None:
        wide = [Segment(number * FAN_IN, (number + 1) * FAN_IN - 1) for number in range(FAN_IN)]
        assert due_merge(wide) == Segment(0, FAN_IN * FAN_IN - 1)
        assert due_merge(wide[:-1]) is None

    def test_only_merges_aligned_blocks_so_that_two_write_the_same(self) -> None:
        assert due_merge([Segment(number, number) for number in range(5, 5 + FAN_IN)]) is None

    def test_while_it_is_read_starts_the_reading_anew(self, tmp_path: Path) -> None:
        writing = log_at(tmp_path)
        for number in range(FAN_IN):
            writing.append(b"%d\n" % number)

        reading, found = log_at(tmp_path), []
        lines = reading.read(found.clear)
        found.append(next(lines))
        writing.tidy()
        found.extend(lines)

        assert found == [b"%d\n" % number for number in range(FAN_IN)]


class TestNames:
    def test_of_strangers_do_not_count(self) -> None:
        assert parse_names(["owner.json", "1-2.jsonl", Segment(0, 0).name, ".bfl-x.part.jsonl"]) == [Segment(0, 0)]

    def test_of_merged_segments_cover_their_parts(self) -> None:
        names = [Segment(0, 0).name, Segment(0, 63).name, Segment(63, 63).name, Segment(64, 64).name]
        assert effective(parse_names(names)) == [Segment(0, 63), Segment(64, 64)]
