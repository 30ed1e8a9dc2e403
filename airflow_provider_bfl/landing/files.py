# SPDX-License-Identifier: Apache-2.0
"""
Local files, and every other store Airflow's ObjectStoragePath knows.

Both write under a temporary name beside the final one and move it there when it is whole: a client that buffers may
otherwise finish a half-written object while it handles the failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import uuid4

from airflow_provider_bfl.landing.store import (
    HOPELESS,
    Contents,
    NameTakenError,
    StoredObject,
    StoreFaultError,
    described,
)

_COPY_BYTES = 1024**2

#: The least that every block-buffering client accepts; some default to 50 MB.
_BLOCK_BYTES = 8 * 1024**2

_PERMANENT = (PermissionError, IsADirectoryError, NotADirectoryError, *HOPELESS)


class FileStore:
    """The worker's own file system, and what is mounted there. Keys are absolute paths without the leading slash."""

    @property
    def root(self) -> str:
        """The URI of the file system's root."""
        return "file:///"

    def stat(self, key: str) -> StoredObject | None:
        """Return what is stored under ``key``, or None."""
        with _translated():
            path = Path("/", key)
            if path.is_dir():
                raise IsADirectoryError(f"{path} is a directory; a destination that is one ends with a slash")
            return StoredObject(path.stat().st_size) if path.exists() else None

    def put(self, key: str, contents: Contents, *, create_only: bool) -> None:
        """Store all of ``contents`` under ``key``, or nothing."""
        path = Path("/", key)
        part = path.with_name(_part_name(""))
        with _translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("xb") as file:
                    contents.body.seek(0)
                    shutil.copyfileobj(contents.body, file, _COPY_BYTES)
                    file.flush()
                    os.fsync(file.fileno())
                _publish(part, path, create_only=create_only)
            finally:
                part.unlink(missing_ok=True)

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """Open what is stored under ``key`` for reading."""
        with _translated(), Path("/", key).open("rb") as file:
            yield file

    def console_url(self, key: str) -> None:
        """Return None: there is no console to look at it."""

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of everything below ``prefix``, sorted."""
        root = Path("/", prefix)
        with _translated():
            files = (path for path in root.rglob("*") if not _is_part(path.name) and path.is_file())
            return sorted(prefix + path.relative_to(root).as_posix() for path in files)

    def delete(self, key: str) -> None:
        """Remove what is stored under ``key`` and the directory it leaves empty, if anything is."""
        path = Path("/", key)
        with _translated():
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()


class ObjectStorageStore:
    """
    One place of any store that Airflow's ObjectStoragePath knows, such as Azure's or SFTP.

    It keeps no metadata. Whether a name is free is looked up just before the move: these stores have no common way to
    create conditionally.

    :param root: The URI all keys are below, ending with a slash.
    :param conn_id: The Airflow connection, or None for the store's own defaults.
    """

    def __init__(self, root: str, *, conn_id: str | None) -> None:
        self.root = root
        self.conn_id = conn_id

    @cached_property
    def filesystem(self) -> Any:
        """The fsspec file system behind the URI."""
        return self._path("").fs

    def stat(self, key: str) -> StoredObject | None:
        """Return what is stored under ``key``, or None."""
        with _translated():
            path = self._path(key).path
            self.filesystem.invalidate_cache(path)
            if not self.filesystem.exists(path):
                return None
            return StoredObject(int(self.filesystem.info(path)["size"]))

    def put(self, key: str, contents: Contents, *, create_only: bool) -> None:
        """Store all of ``contents`` under ``key``, or nothing."""
        directory, _, name = key.rpartition("/")
        path = self._path(key).path
        part = self._path(f"{directory}/{_part_name(name)}" if directory else _part_name(name)).path
        with _translated():
            with suppress(FileExistsError, NotImplementedError):  # object stores have no directories to make
                self.filesystem.makedirs(self.filesystem._parent(path), exist_ok=True)
            try:
                self._write(part, contents)
                if create_only and self.stat(key) is not None:
                    raise NameTakenError()
                self.filesystem.mv(part, path)
            finally:
                with suppress(Exception):  # after the move there is nothing left to remove
                    self.filesystem.rm_file(part)

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """Open what is stored under ``key`` for reading, streamed."""
        with _translated(), self.filesystem.open(self._path(key).path, "rb", block_size=_BLOCK_BYTES) as file:
            yield cast("BinaryIO", file)

    def console_url(self, key: str) -> None:
        """Return None: there is no console to look at it."""

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of everything below ``prefix``, sorted."""
        root = self._path(prefix).path.rstrip("/")
        with _translated():
            self.filesystem.invalidate_cache(root)
            found = self.filesystem.find(root)
            return sorted(
                prefix + path.removeprefix(root).lstrip("/")
                for path in found
                if path.startswith(f"{root}/") and not _is_part(path.rpartition("/")[2])
            )

    def delete(self, key: str) -> None:
        """Remove what is stored under ``key``, if anything is."""
        path = self._path(key).path
        with _translated():
            if self.stat(key) is not None:
                self.filesystem.rm_file(path)
            self.filesystem.invalidate_cache(path)

    def _write(self, path: str, contents: Contents) -> None:
        contents.body.seek(0)
        with self.filesystem.open(path, "wb", block_size=_BLOCK_BYTES) as file:
            shutil.copyfileobj(contents.body, file, _COPY_BYTES)
        self.filesystem.invalidate_cache(path)
        stored = int(self.filesystem.info(path)["size"])
        if stored != contents.size:
            raise OSError(f"{stored} of {contents.size} bytes were stored")

    def _path(self, key: str) -> Any:
        module = import_module("airflow.sdk" if find_spec("airflow.sdk") else "airflow.io.path")  # moved by Airflow 3
        return module.ObjectStoragePath(self.root + key, conn_id=self.conn_id)


def _publish(part: Path, path: Path, *, create_only: bool) -> None:
    if not create_only:
        part.replace(path)
        return
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise NameTakenError() from None
    except OSError:  # a mount without hard links
        if path.exists():
            raise NameTakenError() from None
        part.replace(path)


def _part_name(name: str) -> str:
    # The extension stays last: some clients guess the content type from it.
    return f".bfl-{uuid4().hex}.part{Path(name).suffix}"


def _is_part(name: str) -> bool:
    return name.startswith(".bfl-") and ".part" in name


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (NameTakenError, StoreFaultError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a client raises, nothing was stored
        raise StoreFaultError(described(error), permanent=isinstance(error, _PERMANENT)) from None
