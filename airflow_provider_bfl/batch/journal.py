# SPDX-License-Identifier: Apache-2.0
"""
The batch's memory between attempts: ``manifest.jsonl``, and while it runs the log beside it.

Rows that wait to be written share one write, so nothing waits for more than two writes whatever the number of slots.
Nothing is POSTed before its intent is durable. An attempt signs the log when it begins; one that finds another's
signature steps back before its next POST.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, TypeVar, cast
from uuid import uuid4

from airflow_provider_bfl.batch.rows import read_row
from airflow_provider_bfl.batch.segments import CONTENT_TYPE, LogTakenError, Segment, SegmentLog, unreadable
from airflow_provider_bfl.batch.table import Table
from airflow_provider_bfl.exceptions import BflBatchTakenOverError, BflConfigError, BflJournalError
from airflow_provider_bfl.landing import Target
from airflow_provider_bfl.landing.store import Contents, StoreFaultError

MANIFEST = "manifest.jsonl"

_SIGNATURE = "owner.json"
_READ_DELAYS = (1.0, 3.0, 8.0)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Signature:
    """Who writes the log: the attempt's number among those on this manifest, and a token nobody else has."""

    attempt: int
    token: str
    owner: str

    def to_bytes(self) -> bytes:
        """Return it as it is stored."""
        return json.dumps({"attempt": self.attempt, "token": self.token, "owner": self.owner}).encode()


class Manifest:
    """
    The manifest of one destination and the log beside it; every method blocks.

    :param target: The batch's destination, a directory.
    :param table: Takes the rows.
    :param sleep: Waits between tries.
    """

    def __init__(self, target: Target, table: Table, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._store = target.store
        self._key = target.key + MANIFEST
        self._signature_key = f"{self._key}.d/{_SIGNATURE}"
        self._table = table
        self._sleep = sleep
        self._log = SegmentLog(self._store, f"{self._key}.d/", sleep=sleep)
        self.signature = Signature(0, "", "")

    @property
    def uri(self) -> str:
        """The manifest's URI."""
        return self._store.root + self._key

    def open(self, *, adopt: bool) -> None:
        """
        Read what there is, and sign.

        :param adopt: Whether rows of other batches are welcome.
        :raises BflConfigError: there are such rows and they are not.
        :raises BflJournalError: it cannot be read or signed.
        """
        self._refuse_strangers(adopt=adopt)
        try:
            former = self._read_signature()
            self._sign(1 + max(former.attempt if former else 0, self._table.newest_attempt()))
            # Whoever wrote until now sees the signature before another POST; what was written before it counts.
            if self._log.has_changed():
                self._read_all()
        except StoreFaultError as fault:
            raise unreadable(fault.reason) from None
        self._log.tidy()

    def _refuse_strangers(self, *, adopt: bool) -> None:
        try:
            former = self._read_signature()
            self._read_all()
        except StoreFaultError as fault:
            raise unreadable(fault.reason) from None
        signed = former.owner if former and former.owner != str(self._table.owner) else None
        stranger = self._table.foreign_owner() or signed
        if stranger is None:
            return
        if signed is not None and adopt:
            raise BflConfigError(
                f"Another batch ({signed}) is being written to {self.uri}, or was interrupted there. Nothing was "
                "submitted. Let it end, or give each run a destination of its own: put {{ run_id }} into it."
            )
        if not adopt:
            raise BflConfigError(
                f"{self.uri} is the manifest of another batch ({stranger}). Nothing was submitted and it is not "
                "touched. Give each run a destination of its own: put {{ run_id }} into it; or set if_exists='skip' "
                "to take over what is stored there."
            )

    def write(self, lines: bytes, *, before_posts: bool) -> int:
        """
        Make lines durable; return the number of the write.

        :param before_posts: Whether POSTs wait for it: then the signature is looked at, too.
        :raises BflBatchTakenOverError: another attempt has signed.
        :raises BflJournalError: the store cannot be written.
        """
        try:
            segment = self._append(lines)
            if before_posts and not self._is_signed():
                # Out of the way of the one who signed: nothing is POSTed for these lines.
                self._log.forget(segment)
                raise self._taken_over()
        except StoreFaultError as fault:
            raise BflJournalError(
                f"The batch's journal beside {self.uri} could not be written ({fault.reason}). Without it nothing is "
                "submitted; a retry goes on."
            ) from None
        return segment.first

    def tidy(self) -> None:
        """Keep the number of the log's objects small."""
        self._log.tidy()

    def close(self) -> None:
        """
        Write the manifest, whole for whoever reads it, and remove the log.

        :raises BflJournalError: it could not be written; the log stays and is as good.
        """
        try:
            if not self._is_signed():
                raise self._taken_over()
            self._retried(self._write_manifest)
        except StoreFaultError as fault:
            raise BflJournalError(
                f"{self.uri} could not be written ({fault.reason}). The log beside it has every row; a retry writes it."
            ) from None
        # Left-overs do no harm: they say nothing that the manifest does not.
        with suppress(StoreFaultError):
            if self._is_signed():
                self._log.remove()
                self._store.delete(self._signature_key)

    def _append(self, lines: bytes) -> Segment:
        while True:
            try:
                return self._log.append(lines)
            except LogTakenError:
                # An own write that seemed to have failed takes a number, too.
                if not self._is_signed():
                    raise self._taken_over() from None
                self._log.skip()

    def _taken_over(self) -> BflBatchTakenOverError:
        return BflBatchTakenOverError(
            f"Another attempt goes on with the batch of {self.uri}. This one submits nothing more."
        )

    def _write_manifest(self) -> None:
        with tempfile.TemporaryFile() as file:
            file.writelines(self._table.lines())
            contents = Contents(cast("BinaryIO", file), file.tell(), CONTENT_TYPE)
            self._store.put(self._key, contents, create_only=False)

    def _read_all(self) -> None:
        complete = False

        def begin() -> None:
            nonlocal complete
            self._table.forget_rows()
            complete = self._read_manifest()

        for line in self._log.read(begin):
            self._table.put(read_row(line))
        start = self._log.starts_at
        if start and not complete:
            raise BflJournalError(
                f"The journal beside {self.uri} lacks its beginning, and there is no manifest. Nothing was submitted: "
                "what earlier attempts paid for is unknown. Restore it, or choose another destination."
            )

    def _read_manifest(self) -> bool:
        if self._retried(lambda: self._store.stat(self._key)) is None:
            return False
        with self._store.open(self._key) as body:
            for line in body:
                self._table.put(read_row(line))
        return True

    def _sign(self, attempt: int) -> None:
        self.signature = Signature(attempt, uuid4().hex, str(self._table.owner))
        document = self.signature.to_bytes()
        contents = Contents(BytesIO(document), len(document), "application/json")
        self._retried(lambda: self._store.put(self._signature_key, contents, create_only=False))

    def _is_signed(self) -> bool:
        return self._retried(self._read_signature) == self.signature

    def _read_signature(self) -> Signature | None:
        if self._store.stat(self._signature_key) is None:
            return None
        with self._store.open(self._signature_key) as body:
            text = body.read()
        try:
            return Signature(**json.loads(text))
        except (ValueError, TypeError):
            raise unreadable(f"{self._store.root}{self._signature_key} is damaged") from None

    def _retried(self, action: Callable[[], _T]) -> _T:
        for delay in _READ_DELAYS:
            try:
                return action()
            except StoreFaultError as fault:
                if fault.permanent:
                    raise
                self._sleep(delay)
        return action()
