# SPDX-License-Identifier: Apache-2.0
"""
Land a generation: download, verify, name, store, sidecar.

The signed URL lives ten minutes, and what it points to is paid for. So the body is fetched first and at once, held
until it is stored, and nothing here can make BFL generate anything. Whatever fails can be done again: the same
generation gets the same name, and bytes that are already there are a success.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from typing import BinaryIO, Literal, TypeVar, cast

from airflow_provider_bfl.api.messages import Phase, PollResult
from airflow_provider_bfl.exceptions import (
    BflDownloadError,
    BflObjectExistsError,
    BflResultExpiredError,
    BflResultTooLargeError,
    BflStorageError,
)
from airflow_provider_bfl.landing.facts import SIDECAR_SUFFIX, Generation, Landed, read_sidecar, sidecar_of
from airflow_provider_bfl.landing.names import object_stem, safe_path
from airflow_provider_bfl.landing.store import Contents, NameTakenError, Store, StoreFaultError
from airflow_provider_bfl.landing.target import Target
from airflow_provider_bfl.landing.verify import Media, UnusableBodyError, verify
from airflow_provider_bfl.transport.settings import Download

log = logging.getLogger(__name__)

IfExists = Literal["overwrite", "skip", "error"]

#: Most images are smaller and never touch the disk.
_SPOOL_BYTES = 8 * 1024**2

#: Between tries in one attempt. A longer outage is for the task's own retries, which cost no generation either.
_DOWNLOAD_DELAYS = (1.0, 3.0)
_STORE_DELAYS = (1.0, 3.0, 8.0)

_HASH_BYTES = 1024**2

#: A sidecar is a few kilobytes; an unrelated JSON of any size may be in its place.
_MAX_SIDECAR_BYTES = 1024**2

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Fetched:
    result: PollResult
    download: Download
    media: Media
    ready_at: float
    age_seconds: float


@dataclass(frozen=True)
class _Landing:
    """One landing: what every step of it needs to know or to call."""

    generation: Generation
    target: Target
    poll: Callable[[], PollResult]
    download: Callable[[str, BinaryIO], Download]
    output_format: str | None
    if_exists: IfExists
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    first_seen: float

    @property
    def named(self) -> str:
        model = f" ({self.generation.model})" if self.generation.model else ""
        return f"generation {self.generation.id}{model}"


def land(
    *,
    result: PollResult,
    poll: Callable[[], PollResult],
    download: Callable[[str, BinaryIO], Download],
    target: Target,
    generation: Generation,
    output_format: str | None = None,
    if_exists: IfExists = "overwrite",
    record_prompt: bool = True,
    stem: str | None = None,
    look: Callable[[Landed, BinaryIO], None] | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Landed:
    """
    Bring a finished generation's result into the target and return what was stored.

    Nothing is visible under the final name before it is whole, and the bytes are BFL's own. When the same bytes are
    already there, that is a success under every ``if_exists``.

    :param result: BFL's answer that the generation is ready.
    :param poll: Asks BFL once more; called only when the signed URL turns out to have expired. Its errors pass through.
    :param download: Streams a URL into a file from its current position, as the transports do.
    :param target: A full name, or a directory below which a name is made.
    :param generation: What is known already.
    :param output_format: The request's, or None when unknown.
    :param if_exists: What happens to another object of that name: ``overwrite`` replaces it, ``skip`` keeps and returns
        it (a full name is looked up before anything is downloaded), ``error`` fails.
    :param record_prompt: Whether the sidecar has the prompt.
    :param stem: The path below a directory, without an extension; its segments are made safe. None for
        ``<dag_id>/<run_id>/<task_id>[/<map_index>]/<generation id>``. Not used for a full name.
    :param look: Given the result and its bytes once both they and the sidecar are stored, to read them; not called for
        an object that was kept instead.
    :raises BflResultExpiredError: the signed URL had expired and polling again gave no valid one.
    :raises BflDownloadError: the result could not be had whole.
    :raises BflResultTooLargeError: it is larger than is accepted.
    :raises BflObjectExistsError: another object has the name and ``if_exists="error"``.
    :raises BflStorageError: it could not be stored.
    :raises BflUntrustedUrlError: the URL may not be downloaded.
    """
    landing = _Landing(generation, target, poll, download, output_format, if_exists, clock, sleep, first_seen=clock())
    if if_exists == "skip" and not target.is_directory:
        kept = _storing(landing, target.key, lambda: _existing(target.store, target.key))
        if kept is not None:
            log.info("%s is already stored and kept; generation %s is not downloaded", kept.uri, generation.id)
            return kept
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
        body = cast("BinaryIO", spool)
        fetched = _fetch(landing, result, body)
        if fetched.media.warning:
            log.warning("Generation %s: %s", generation.id, fetched.media.warning)
        key = _key(landing, fetched.media, stem)
        kept = _storing(landing, key, lambda: _put_or_keep(landing, key, body, fetched))
        if kept is not None:
            log.info("%s is already stored and kept; generation %s is not stored", kept.uri, generation.id)
            return kept
        landed = _landed(landing, target.store.root + key, fetched)
        _put_sidecar(landing, key, sidecar_of(landed, generation, record_prompt=record_prompt))
        if look is not None:
            look(landed, body)
    return landed


def find_landed(
    target: Target, *, uri: str | None = None, sleep: Callable[[float], None] = time.sleep
) -> Landed | None:
    """
    Return what is stored under a full name, or None.

    Where the sidecar belongs to the object it is the result of the generation that was landed there, otherwise the
    little that the store itself knows.

    :param target: Where to look.
    :param uri: The object's URI when the target is a directory; None for a target that is a full name.
    :raises BflStorageError: the store could not be asked.
    """
    key = target.key if uri is None else target.key_of(uri)
    if not key or key.endswith("/"):
        return None
    try:
        return _repeated(
            lambda: _existing(target.store, key),
            what=f"Looking for {target.store.root}{key}",
            may_pass=_is_passing,
            delays=_STORE_DELAYS,
            sleep=sleep,
        )
    except StoreFaultError as fault:
        raise BflStorageError(
            f"It could not be seen whether {target.store.root}{key} is already stored: {fault.reason}. Nothing was "
            "changed; a retry looks again."
        ) from None


def _fetch(landing: _Landing, result: PollResult, body: BinaryIO) -> _Fetched:
    try:
        return _fetch_whole(landing, result, body)
    except BflResultExpiredError:
        log.info("The signed URL of %s has expired; asking BFL for the result again", landing.named)
    fresh = landing.poll()
    if fresh.phase is Phase.READY:
        with suppress(BflResultExpiredError):
            return _fetch_whole(landing, fresh, body)
    raise BflResultExpiredError(
        f"The result of {landing.named} was generated and billed, but its signed URL had expired and asking again gave "
        f"no valid one (status {fresh.status!r}). A retry asks BFL again at no cost; nothing is generated anew unless "
        "force_new is set.",
        generation_id=landing.generation.id,
        model=landing.generation.model,
    )


def _fetch_whole(landing: _Landing, result: PollResult, body: BinaryIO) -> _Fetched:
    def may_pass(error: Exception) -> bool:
        return isinstance(error, BflDownloadError | UnusableBodyError) and not isinstance(error, BflResultTooLargeError)

    try:
        return _repeated(
            lambda: _fetch_once(landing, result, body),
            what=f"Landing {landing.named}",
            may_pass=may_pass,
            delays=_DOWNLOAD_DELAYS,
            sleep=landing.sleep,
        )
    except BflResultTooLargeError as error:
        raise BflResultTooLargeError(
            f"The result of {landing.named} was generated and billed, and is not stored: {error} A retry would fetch "
            "as much; get it by its id on BFL's dashboard.",
            generation_id=landing.generation.id,
            model=landing.generation.model,
        ) from None
    except (BflDownloadError, UnusableBodyError) as error:
        raise BflDownloadError(
            f"The result of {landing.named} was generated and billed, but could not be had whole: "
            f"{str(error).rstrip('.')}. A retry fetches it again without generating.",
            generation_id=landing.generation.id,
            model=landing.generation.model,
        ) from None


def _fetch_once(landing: _Landing, result: PollResult, body: BinaryIO) -> _Fetched:
    if not result.sample:
        raise UnusableBodyError("BFL says it is ready and gives no URL")
    body.seek(0)
    body.truncate()
    age = landing.clock() - landing.first_seen
    download = landing.download(result.sample, body)
    media = verify(body, download.size, declared_type=download.content_type, output_format=landing.output_format)
    return _Fetched(
        result,
        download,
        media,
        ready_at=landing.first_seen if download.ready_at is None else download.ready_at,
        age_seconds=age if download.age_seconds is None else download.age_seconds,
    )


def _key(landing: _Landing, media: Media, stem: str | None) -> str:
    if not landing.target.is_directory:
        return landing.target.key
    below = object_stem(landing.generation.task, landing.generation.id) if stem is None else safe_path(stem)
    return f"{landing.target.key}{below}.{media.extension}"


def _put_or_keep(landing: _Landing, key: str, body: BinaryIO, fetched: _Fetched) -> Landed | None:
    """Store the body and return None, or return the other object that is kept in its place."""
    store, create_only = landing.target.store, landing.if_exists != "overwrite"
    metadata = {"bfl-id": landing.generation.id, "sha256": fetched.download.sha256}
    if landing.generation.model:
        metadata["bfl-model"] = landing.generation.model
    contents = Contents(body, fetched.download.size, fetched.media.content_type, metadata)
    try:
        if create_only and store.stat(key) is not None:
            raise NameTakenError
        store.put(key, contents, create_only=create_only)
    except NameTakenError:
        return _kept(landing, key, fetched.download)
    return None


def _kept(landing: _Landing, key: str, download: Download) -> Landed | None:
    store = landing.target.store
    if _holds(store, key, download):
        return None
    if landing.if_exists == "error":
        raise BflObjectExistsError(
            f"{store.root}{key} already holds another object and if_exists='error'. The result of {landing.named} was "
            "generated and billed, and is not stored. Move the object away or change the destination, then clear the "
            "task: it lands without generating while BFL still has the result.",
            generation_id=landing.generation.id,
            model=landing.generation.model,
        )
    kept = _existing(store, key)
    if kept is None:
        raise StoreFaultError("the object of that name was removed meanwhile", permanent=False)
    return kept


def _holds(store: Store, key: str, download: Download) -> bool:
    """Whether the very bytes are stored: after an upload whose answer was lost, or in a retry after it."""
    stored = store.stat(key)
    if stored is None or stored.size != download.size:
        return False
    if stored.sha256 is not None:
        return stored.sha256 == download.sha256
    digest = hashlib.sha256()
    with store.open(key) as body:
        while chunk := body.read(_HASH_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == download.sha256


def _existing(store: Store, key: str) -> Landed | None:
    stored = store.stat(key)
    if stored is None:
        return None
    uri, sidecar_key = store.root + key, key + SIDECAR_SUFFIX
    known = None
    if store.stat(sidecar_key) is not None:
        with store.open(sidecar_key) as body:
            known = read_sidecar(body.read(_MAX_SIDECAR_BYTES))
    # A sidecar is written after its object: it may still be the one of the object's predecessor.
    if known is None or known.size != stored.size or stored.sha256 not in {None, known.sha256}:
        return Landed(uri=uri, size=stored.size, content_type=stored.content_type, sha256=stored.sha256)
    return replace(known, uri=uri, sidecar_uri=store.root + sidecar_key)


def _landed(landing: _Landing, uri: str, fetched: _Fetched) -> Landed:
    generation, result = landing.generation, fetched.result
    return Landed(
        uri=uri,
        size=fetched.download.size,
        id=generation.id,
        model=generation.model,
        status=result.status,
        seed=result.seed,
        cost=generation.cost if result.cost is None else result.cost,
        content_type=fetched.media.content_type,
        sha256=fetched.download.sha256,
        sidecar_uri=uri + SIDECAR_SUFFIX,
        submitted_at=generation.submitted_at,
        ready_at=fetched.ready_at,
        landed_at=landing.clock(),
        url_age_seconds=round(fetched.age_seconds, 3),
        reattached=generation.reattached,
        possibly_billed_twice=generation.possibly_billed_twice,
    )


def _put_sidecar(landing: _Landing, key: str, document: bytes) -> None:
    contents = Contents(
        BytesIO(document), len(document), "application/json", {"bfl-id": landing.generation.id}, is_sidecar=True
    )
    sidecar_key = key + SIDECAR_SUFFIX
    _storing(landing, sidecar_key, lambda: landing.target.store.put(sidecar_key, contents, create_only=False))


def _storing(landing: _Landing, key: str, action: Callable[[], _T]) -> _T:
    try:
        return _repeated(
            action,
            what=f"Landing {landing.named}",
            may_pass=_is_passing,
            delays=_STORE_DELAYS,
            sleep=landing.sleep,
        )
    except StoreFaultError as fault:
        raise BflStorageError(
            f"The result of {landing.named} was generated and billed, but could not be stored at "
            f"{landing.target.store.root}{key}: {fault.reason}. A retry stores it without generating, as long as BFL "
            "still has the result.",
            generation_id=landing.generation.id,
            model=landing.generation.model,
        ) from None


def _is_passing(error: Exception) -> bool:
    return isinstance(error, StoreFaultError) and not error.permanent


def _repeated(
    action: Callable[[], _T],
    *,
    what: str,
    may_pass: Callable[[Exception], bool],
    delays: Sequence[float],
    sleep: Callable[[float], None],
) -> _T:
    for delay in delays:
        try:
            return action()
        except Exception as error:
            if not may_pass(error):
                raise
            log.warning("%s: %s; trying again in %g s", what, str(error).rstrip("."), delay)
        sleep(delay)
    return action()
