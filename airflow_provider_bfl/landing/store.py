# SPDX-License-Identifier: Apache-2.0
"""
What landing needs of a store, and the two ways a store may say no.

A store keeps objects under keys below one ``root``; ``root + key`` is an object's URI. Each implementation translates
its client's errors, so that nothing above knows boto3, Google's client or fsspec.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_bfl.api.messages import redact_urls

#: Errors of wrong use or of a connection that cannot be used: trying again changes nothing.
HOPELESS = (AirflowException, ImportError, NotImplementedError, TypeError, ValueError)

#: A client's own words are shown so far; some print whole answers.
_MAX_REASON_CHARS = 300


@dataclass(frozen=True)
class StoredObject:
    """An object as its store describes it. ``sha256`` and ``content_type`` are None where the store keeps none."""

    size: int
    sha256: str | None = None
    content_type: str | None = None


@dataclass(frozen=True)
class Contents:
    """
    What is to be stored.

    :param body: Seekable, and left open: a repeat reads it again from its start.
    :param size: Bytes in ``body``.
    :param metadata: Kept on the object where the store can.
    :param is_sidecar: The body describes another object; options about the object's own content do not apply to it.
    """

    body: BinaryIO
    size: int
    content_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_sidecar: bool = False


class StoreFaultError(Exception):
    """
    A store could not do what it was asked.

    :param reason: What happened and, where it is known, what to fix; free of URLs with credentials.
    :param permanent: Whether asking again within the same attempt is useless.
    """

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


class NameTakenError(Exception):
    """An object is already stored under the key, and it was asked not to be replaced."""


class Store(Protocol):
    """
    A place for objects.

    Every method raises :class:`StoreFaultError` when the store cannot be reached or refuses.
    """

    @property
    def root(self) -> str:
        """The URI all keys are below, ending with a slash."""

    def stat(self, key: str) -> StoredObject | None:
        """Return what is stored under ``key``, or None."""

    def put(self, key: str, contents: Contents, *, create_only: bool) -> None:
        """
        Store all of ``contents`` under ``key``, or nothing.

        :raises NameTakenError: ``create_only`` and there already is an object.
        """

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Open what is stored under ``key`` for reading, streamed; it iterates over lines, as a file does."""

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of everything below ``prefix``, which ends with a slash, sorted."""

    def delete(self, key: str) -> None:
        """Remove what is stored under ``key``, if anything is."""

    def console_url(self, key: str) -> str | None:
        """Return the page of the cloud's console about an object, or a directory; None where there is none."""


def described(error: Exception) -> str:
    """Return what a store's client says in one line, without the query of any URL in it."""
    words = " ".join(redact_urls(str(error)).split())
    return f"{type(error).__name__}: {words[:_MAX_REASON_CHARS]}" if words else type(error).__name__


def header_value(text: str) -> str:
    """Return ``text`` as it may stand in a header: metadata travels as headers, which are printable ASCII."""
    return "".join(each if " " <= each <= "~" else each.encode("unicode_escape").decode() for each in text)
