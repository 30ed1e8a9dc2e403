# SPDX-License-Identifier: Apache-2.0
"""
An append-only log on stores that cannot append.

Each write is one new object, ``<first>-<last>.jsonl``, numbered in order. An object appears whole or not at all, so a
log never has half a line. Sixty-four objects in a row become one of the same content, sixty-four of those one again,
so their number stays small and every line is rewritten only a few times. Objects never change, which makes merging
safe even where two do it at once.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, cast

from airflow_provider_bfl.exceptions import BflJournalError
from airflow_provider_bfl.landing.store import Contents, NameTakenError, Store, StoreFaultError

#: How many segments become one.
FAN_IN = 64

_NAME = re.compile(r"(\d{12})-(\d{12})\.jsonl")
_SPOOL_BYTES = 4 * 1024**2

#: Seconds before each try to write; a store may be away for a moment, and what waits may be a paid answer.
_WRITE_DELAYS = (0.0, 1.0, 3.0, 8.0)

#: Merging by another attempt may remove what was just listed.
_READ_TRIES = 5

CONTENT_TYPE = "application/x-ndjson"


class LogTakenError(Exception):
    """Somebody else wrote the next segment."""


@dataclass(frozen=True, order=True)
class Segment:
    """Lines of the log, by the numbers of the writes that it holds."""

    first: int
    last: int

    @property
    def name(self) -> str:
        """Its name below the log's own."""
        return f"{self.first:012d}-{self.last:012d}.jsonl"

    @property
    def width(self) -> int:
        """How many writes it holds."""
        return self.last - self.first + 1


def parse_names(names: Sequence[str]) -> list[Segment]:
    """Return the segments among these names, in order; each merged one before what it was made of."""
    found = (_NAME.fullmatch(name) for name in names)
    return sorted(
        (Segment(int(each[1]), int(each[2])) for each in found if each), key=lambda each: (each.first, -each.last)
    )


def effective(segments: Sequence[Segment]) -> list[Segment]:
    """
    Return the segments that make up the log, leaving out what a merged one has.

    :raises BflJournalError: one is missing between two others.
    """
    kept: list[Segment] = []
    for segment in segments:
        if kept and segment.last <= kept[-1].last:
            continue
        if kept and segment.first != kept[-1].last + 1:
            raise BflJournalError(
                f"The batch's journal has a gap between its segments {kept[-1].name} and {segment.name}. Nothing was "
                "submitted: what earlier attempts paid for is unknown. Restore the missing objects, or choose another "
                "destination to generate (and pay) anew."
            )
        kept.append(segment)
    return kept


def due_merge(segments: Sequence[Segment]) -> Segment | None:
    """Return the merged segment to write next, or None; ``segments`` are the effective ones."""
    widths = {segment.width for segment in segments}
    for width in sorted(widths):
        firsts = {segment.first for segment in segments if segment.width == width}
        for start in sorted(firsts):
            block = range(start, start + FAN_IN * width, width)
            # Aligned, so that whoever merges writes the very same object.
            if start % (FAN_IN * width) == 0 and firsts.issuperset(block):
                return Segment(start, start + FAN_IN * width - 1)
    return None


class SegmentLog:
    """
    One log below a prefix of a store.

    :param store: Where it is.
    :param prefix: Key prefix, ending with a slash; nothing else is there but the owner's mark.
    :param sleep: Waits between tries.
    """

    def __init__(self, store: Store, prefix: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._store = store
        self._prefix = prefix
        self._sleep = sleep
        self._next = 0
        self._seen: list[Segment] = []

    def segments(self) -> list[Segment]:
        """Return every segment there is."""
        names = [key.removeprefix(self._prefix) for key in self._store.keys(self._prefix)]
        return parse_names(names)

    def read(self, begin: Callable[[], None]) -> Iterator[bytes]:
        """
        Yield every line in order, and go on writing after the last.

        :param begin: Called before the first line, and again when reading has to start anew.
        :raises BflJournalError: it cannot be read whole.
        """
        for tries_left in reversed(range(_READ_TRIES)):
            try:
                found = self.segments()
                kept = effective(found)
                begin()
                for segment in kept:
                    with self._store.open(self._prefix + segment.name) as body:
                        yield from body
            except StoreFaultError as fault:
                if not tries_left:
                    raise unreadable(fault.reason) from None
                self._sleep(0.0 if fault.permanent else 1.0)
                continue
            self._seen = found
            self._next = max((segment.last + 1 for segment in found), default=0)
            return

    @property
    def starts_at(self) -> int | None:
        """The number of the first write that was read, or None when there was none."""
        return self._seen[0].first if self._seen else None

    def has_changed(self) -> bool:
        """Whether there are other segments now than were read."""
        return self.segments() != self._seen

    def skip(self) -> None:
        """Leave the next number to whoever took it."""
        self._next += 1

    def append(self, lines: bytes) -> Segment:
        """
        Write lines as the next segment.

        :raises LogTakenError: the next number is somebody else's.
        :raises StoreFaultError: they could not be written; the next call writes under the same number.
        """
        segment = Segment(self._next, self._next)
        self._write(segment, BytesIO(lines), len(lines))
        self._next += 1
        return segment

    def tidy(self) -> None:
        """Merge what is due and remove what was merged; a failure is left for the next time."""
        with suppress(StoreFaultError, NameTakenError, LogTakenError, BflJournalError):
            while True:
                found = self.segments()
                kept = effective(found)
                for merged in set(found) - set(kept):
                    self._store.delete(self._prefix + merged.name)
                due = due_merge(kept)
                if due is None:
                    return
                self._merge(due, [each for each in kept if due.first <= each.first and each.last <= due.last])

    def remove(self) -> None:
        """Remove what was read or written, the oldest first: what an interruption leaves is the end of the log."""
        for segment in self.segments():
            if segment.last < self._next:
                self._store.delete(self._prefix + segment.name)

    def forget(self, segment: Segment) -> None:
        """Remove a segment that should not be there, if that can be done."""
        with suppress(StoreFaultError):
            self._store.delete(self._prefix + segment.name)

    def _merge(self, merged: Segment, parts: Sequence[Segment]) -> None:
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
            body = cast("BinaryIO", spool)
            for part in parts:
                with self._store.open(self._prefix + part.name) as lines:
                    shutil.copyfileobj(lines, body)
            size = body.tell()
            with suppress(NameTakenError):
                self._put(merged, body, size)

    def _write(self, segment: Segment, body: BinaryIO, size: int) -> None:
        failure: StoreFaultError | None = None
        for delay in _WRITE_DELAYS:
            self._sleep(delay)
            try:
                self._put(segment, body, size)
            except NameTakenError:
                # It may be this very write, whose answer was lost.
                if not self._holds(segment, body):
                    raise LogTakenError from None
            except StoreFaultError as fault:
                failure = fault
                if fault.permanent:
                    break
                continue
            return
        raise failure or AssertionError("a write succeeds or fails")

    def _put(self, segment: Segment, body: BinaryIO, size: int) -> None:
        contents = Contents(body, size, CONTENT_TYPE)
        self._store.put(self._prefix + segment.name, contents, create_only=True)

    def _holds(self, segment: Segment, body: BinaryIO) -> bool:
        body.seek(0)
        with self._store.open(self._prefix + segment.name) as stored:
            return stored.read() == body.read()


def unreadable(reason: str) -> BflJournalError:
    """Return the error of a manifest or journal that could not be read."""
    return BflJournalError(
        f"The batch's manifest could not be read ({reason}). What earlier attempts paid for is unknown, so nothing was "
        "submitted. A retry reads it again."
    )
