# SPDX-License-Identifier: Apache-2.0
"""
Google Cloud Storage, through Airflow's GCSHook.

A small object is one request, a large one a resumable upload; either becomes visible only when it is whole. Creating
conditionally is ``if_generation_match=0``. Source: https://cloud.google.com/storage/docs/request-preconditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from airflow_provider_bfl.landing.store import (
    HOPELESS,
    Contents,
    NameTakenError,
    StoredObject,
    StoreFaultError,
    described,
    header_value,
)

#: The client's default of 100 MB is held in memory. Google takes multiples of 256 KB.
_CHUNK_BYTES = 8 * 1024**2

_ADVICE = {
    401: "correct the connection's credentials",
    403: "allow the connection storage.objects.create, .get and .delete there",
    404: "create the bucket or correct its name",
}


class GCSStore:
    """
    One bucket.

    :param bucket: Its name.
    :param gcp_conn_id: The Airflow connection.
    :param cache_control: Cache-Control of the object, or None for Google's default.
    :param metadata: Kept on the object beside landing's own; landing's ``bfl-id``, ``bfl-model`` and ``sha256`` win.
    """

    def __init__(
        self,
        bucket: str,
        *,
        gcp_conn_id: str,
        cache_control: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.bucket = bucket
        self.gcp_conn_id = gcp_conn_id
        self._cache_control = cache_control
        self._metadata = dict(metadata or {})

    @property
    def root(self) -> str:
        """The bucket's URI."""
        return f"gs://{self.bucket}/"

    @cached_property
    def _bucket(self) -> Any:
        from airflow.providers.google.cloud.hooks.gcs import GCSHook

        return GCSHook(gcp_conn_id=self.gcp_conn_id).get_conn().bucket(self.bucket)

    def stat(self, key: str) -> StoredObject | None:
        """Return what is stored under ``key``, or None."""
        with _translated(self.root):
            blob = self._bucket.get_blob(key)
        if blob is None:
            return None
        return StoredObject(blob.size, (blob.metadata or {}).get("sha256"), blob.content_type)

    def put(self, key: str, contents: Contents, *, create_only: bool) -> None:
        """Store all of ``contents`` under ``key``, or nothing."""
        with _translated(self.root):
            blob = self._bucket.blob(key, chunk_size=_CHUNK_BYTES)
            metadata = contents.metadata if contents.is_sidecar else {**self._metadata, **contents.metadata}
            blob.metadata = {name: header_value(value) for name, value in metadata.items()} or None
            if self._cache_control is not None:
                blob.cache_control = self._cache_control
            blob.upload_from_file(
                contents.body,
                rewind=True,
                size=contents.size,
                content_type=contents.content_type,
                if_generation_match=0 if create_only else None,
            )

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """Open what is stored under ``key`` for reading, streamed."""
        with _translated(self.root), self._bucket.blob(key).open("rb", chunk_size=_CHUNK_BYTES) as body:
            yield cast("BinaryIO", body)

    def console_url(self, key: str) -> str:
        """Return the console's page about an object, or about a prefix that ends with a slash."""
        page = "" if not key or key.endswith("/") else "_details/"
        return f"https://console.cloud.google.com/storage/browser/{page}{self.bucket}/{quote(key)}"

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of everything below ``prefix``, sorted."""
        with _translated(self.root):
            return sorted(blob.name for blob in self._bucket.list_blobs(prefix=prefix))

    def delete(self, key: str) -> None:
        """Remove what is stored under ``key``, if anything is."""
        from google.api_core.exceptions import NotFound

        with _translated(self.root), suppress(NotFound):
            self._bucket.blob(key).delete()


@contextmanager
def _translated(place: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a client raises, nothing was stored
        raise _fault(error, place) from None


def _fault(error: Exception, place: str) -> Exception:
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, GoogleAPICallError):
        status = int(error.code or 0)
        if status == 412:
            return NameTakenError()
        advice = f": {_ADVICE[status]}" if status in _ADVICE else ""
        permanent = status in range(300, 500) and status not in {408, 409, 429}
        return StoreFaultError(f"{place} answered {status} {type(error).__name__}{advice}", permanent=permanent)
    permanent = isinstance(error, HOPELESS) or (
        isinstance(error, GoogleAuthError) and not getattr(error, "retryable", False)
    )
    return StoreFaultError(described(error), permanent=permanent)
