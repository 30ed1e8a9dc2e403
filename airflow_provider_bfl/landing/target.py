# SPDX-License-Identifier: Apache-2.0
"""
Where a result goes: a destination is read and judged once, before anything is paid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_bfl.exceptions import BflConfigError
from airflow_provider_bfl.landing.files import FileStore, ObjectStorageStore
from airflow_provider_bfl.landing.gcs import GCSStore
from airflow_provider_bfl.landing.s3 import S3Store
from airflow_provider_bfl.landing.store import Store

_S3_SCHEMES = frozenset({"s3", "s3a", "s3n"})
_GCS_SCHEMES = frozenset({"gs", "gcs"})
_FILE_SCHEMES = frozenset({"file", "local"})

DEFAULT_AWS_CONN_ID = "aws_default"
DEFAULT_GCP_CONN_ID = "google_cloud_default"


@dataclass(frozen=True)
class Target:
    """
    A place in a store.

    :param key: The object's key, or for a directory the prefix of its objects' keys: empty, or ending with a slash.
    """

    store: Store
    key: str

    @property
    def is_directory(self) -> bool:
        """Whether names are made below it, rather than it being the name."""
        return not self.key or self.key.endswith("/")

    @property
    def uri(self) -> str:
        """The URI without a connection id."""
        return self.store.root + self.key

    def console_url(self, uri: str | None = None) -> str | None:
        """
        Return the page of the cloud's console about the place, or None where there is none.

        :param uri: An object below it; None for the place itself.
        """
        return self.store.console_url(self.key if uri is None else self.key_of(uri) or self.key)

    def key_of(self, uri: str) -> str | None:
        """Return the key of an object's URI, or None when it is in another store."""
        key = uri.removeprefix(self.store.root)
        return key if key and key != uri else None


def open_target(destination: str, *, storage_conn_id: str | None = None) -> Target:
    """
    Return the place a destination URI names; ``s3://`` and ``gs://`` go through Airflow's hooks.

    Nothing is asked of the store yet; that the connection exists is checked.

    :param destination: A full object URI, or a directory ending with a slash. ``scheme://conn_id@bucket/key`` names the
        connection as Airflow's ObjectStoragePath does.
    :param storage_conn_id: The Airflow connection; None for ``aws_default``, ``google_cloud_default`` or the store's
        own defaults.
    :raises BflConfigError: nothing can be stored there.
    """
    parts = _split(destination)
    named, has_named, place = parts.netloc.rpartition("@")
    if has_named and storage_conn_id and named != storage_conn_id:
        raise _unusable(destination, f"it names the connection {named!r}, and storage_conn_id is {storage_conn_id!r}")
    conn_id = named or storage_conn_id
    if conn_id:
        _check_connection(destination, conn_id)
    key = parts.path.removeprefix("/") or parts.path
    if parts.scheme in _S3_SCHEMES:
        return s3_target(place, key, aws_conn_id=conn_id or DEFAULT_AWS_CONN_ID)
    if parts.scheme in _GCS_SCHEMES:
        return gcs_target(place, key, gcp_conn_id=conn_id or DEFAULT_GCP_CONN_ID)
    if parts.scheme in _FILE_SCHEMES:
        if place:
            raise _unusable(destination, "a local path is absolute: file:///path/name")
        if key == "/":
            raise _unusable(destination, "it is the root of the file system")
        return Target(FileStore(), _checked_key(destination, key))
    return _object_storage_target(destination, f"{parts.scheme}://{place}/", key, conn_id)


def s3_target(
    bucket: str,
    key: str,
    *,
    aws_conn_id: str | None,
    extra_args: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Target:
    """
    Return a place in an S3 bucket; see :class:`~airflow_provider_bfl.landing.s3.S3Store` for the options.

    :raises BflConfigError: no bucket or no usable key, or the ``amazon`` extra is missing.
    """
    uri = f"s3://{bucket}/{key}"
    _need(uri, "airflow.providers.amazon", "amazon")
    store = S3Store(_checked_bucket(uri, bucket), aws_conn_id=aws_conn_id, extra_args=extra_args, metadata=metadata)
    return Target(store, _checked_key(uri, key))


def gcs_target(
    bucket: str,
    object_name: str,
    *,
    gcp_conn_id: str,
    cache_control: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Target:
    """
    Return a place in a Google Cloud Storage bucket; see :class:`~airflow_provider_bfl.landing.gcs.GCSStore`.

    :raises BflConfigError: no bucket or no usable name, no such connection, or the ``google`` extra is missing.
    """
    uri = f"gs://{bucket}/{object_name}"
    _need(uri, "airflow.providers.google", "google")
    _check_connection(uri, gcp_conn_id)
    store = GCSStore(
        _checked_bucket(uri, bucket), gcp_conn_id=gcp_conn_id, cache_control=cache_control, metadata=metadata
    )
    return Target(store, _checked_key(uri, object_name))


def _object_storage_target(destination: str, root: str, key: str, conn_id: str | None) -> Target:
    store = ObjectStorageStore(root, conn_id=conn_id)
    try:
        store.filesystem  # noqa: B018 - Airflow finds out here whether it knows the scheme
    except ImportError as error:
        raise _unusable(destination, f"a package is missing: {error}") from error
    except ValueError as error:
        raise _unusable(destination, f"no installed provider serves this scheme ({error})") from error
    return Target(store, _checked_key(destination, key))


def _split(destination: str) -> SplitResult:
    try:
        parts = urlsplit(destination)
    except ValueError as error:
        raise _unusable(destination, str(error)) from error
    if "://" not in destination or not parts.scheme:
        raise _unusable(destination, "it has no scheme; a local path is written file:///path/name")
    if "?" in destination or "#" in destination:
        raise _unusable(destination, "it has a query or a fragment")
    if any(each < " " or each == "\x7f" for each in destination):
        raise _unusable(destination, "it has a control character in it")
    return parts


def _checked_bucket(uri: str, bucket: str) -> str:
    if not bucket or "/" in bucket:
        raise _unusable(uri, "it names no bucket")
    return bucket


def _checked_key(uri: str, key: str) -> str:
    if key == "/":  # all of the bucket
        return ""
    if not key or key.startswith("/"):
        raise _unusable(uri, "it names no object; a directory ends with a slash")
    if {".", ".."} & set(key.split("/")):
        raise _unusable(uri, "its path has '.' or '..' in it")
    return key


def _check_connection(uri: str, conn_id: str) -> None:
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

    try:
        BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise _unusable(uri, f"there is no connection {conn_id!r}") from error


def _need(uri: str, package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise _unusable(uri, f"this needs: pip install 'airflow-provider-bfl[{extra}]'")


def _unusable(destination: str, why: str) -> BflConfigError:
    shown = destination.partition("?")[0]  # a query may be a signature
    return BflConfigError(f"Nothing can be stored at {shown!r}: {why}. Nothing was submitted.")
