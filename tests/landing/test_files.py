# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
import shutil
import stat as modes
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from airflow_provider_bfl.exceptions import BflObjectExistsError, BflStorageError
from airflow_provider_bfl.landing import Target, find_landed, open_target
from airflow_provider_bfl.landing.files import FileStore
from airflow_provider_bfl.landing.store import Contents, NameTakenError, StoreFaultError

if TYPE_CHECKING:
    from tests.landing.conftest import Bfl


def contents(body: bytes = b"whole") -> Contents:
    return Contents(io.BytesIO(body), len(body), "image/png")


class Breaking(io.BytesIO):
    """A body that cannot be read to its end."""

    def read(self, count: int | None = -1) -> bytes:
        if self.tell() > 0:
            raise OSError(5, "Input/output error")
        return super().read(3)


class TestALocalFile:
    @pytest.fixture
    def key(self, tmp_path: Path) -> str:
        return f"{tmp_path}/out/fox.png".lstrip("/")

    def test_appears_whole_or_not_at_all(self, key: str, tmp_path: Path) -> None:
        with pytest.raises(StoreFaultError, match="Input/output"):
            FileStore().put(key, Contents(Breaking(b"whole"), 5, "image/png"), create_only=False)
        assert list((tmp_path / "out").iterdir()) == []

    def test_is_not_harmed_by_a_failed_replacement(self, key: str, tmp_path: Path) -> None:
        FileStore().put(key, contents(b"first"), create_only=False)
        with pytest.raises(StoreFaultError):
            FileStore().put(key, Contents(Breaking(b"whole"), 5, "image/png"), create_only=False)
        assert (tmp_path / "out/fox.png").read_bytes() == b"first"

    def test_is_never_seen_half_written(self, key: str, tmp_path: Path) -> None:
        seen: list[list[str]] = []

        class Watched(io.BytesIO):
            def read(self, count: int | None = -1) -> bytes:
                seen.append([each.name for each in (tmp_path / "out").iterdir() if not each.name.startswith(".bfl-")])
                return super().read(count)

        FileStore().put(key, Contents(Watched(b"whole"), 5, "image/png"), create_only=False)
        assert len(seen) > 1
        assert not any(seen)
        assert [each.name for each in (tmp_path / "out").iterdir()] == ["fox.png"]

    @pytest.mark.parametrize("create_only", [False, True])
    def test_can_be_read_by_whom_the_umask_allows(self, key: str, tmp_path: Path, create_only: bool) -> None:
        before = os.umask(0o022)
        try:
            FileStore().put(key, contents(), create_only=create_only)
        finally:
            os.umask(before)
        assert modes.S_IMODE((tmp_path / "out/fox.png").stat().st_mode) == 0o644

    def test_is_created_only_where_none_is(self, key: str, tmp_path: Path) -> None:
        FileStore().put(key, contents(b"first"), create_only=True)
        with pytest.raises(NameTakenError):
            FileStore().put(key, contents(b"second"), create_only=True)
        assert [each.read_bytes() for each in (tmp_path / "out").iterdir()] == [b"first"]

    def test_is_created_only_where_none_is_on_a_mount_without_hard_links(
        self, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(self: Path, target: Path) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
        FileStore().put(key, contents(b"first"), create_only=True)
        with pytest.raises(NameTakenError):
            FileStore().put(key, contents(b"second"), create_only=True)
        assert [each.read_bytes() for each in (tmp_path / "out").iterdir()] == [b"first"]

    def test_below_something_that_is_no_directory_says_so(self, bfl: Bfl, tmp_path: Path) -> None:
        (tmp_path / "out").write_bytes(b"a file")
        with pytest.raises(BflStorageError, match="without generating"):
            bfl.land(open_target(f"file://{tmp_path}/out/fox.png"))


class TestAnyOtherStoreOfAirflow:
    @pytest.fixture
    def filesystem(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        """A store that Airflow knows only because it was attached, in memory."""
        from fsspec.implementations.memory import MemoryFileSystem

        module = import_module("airflow.sdk.io.store" if find_spec("airflow.sdk") else "airflow.io.store")
        # What is attached stays so, even a scheme that was only asked for and that Airflow does not know.
        monkeypatch.setattr(module, "_STORE_CACHE", {})
        filesystem = MemoryFileSystem()
        module.attach(protocol="memory", fs=filesystem)
        # All its instances share one memory: what other tests left in it is none of ours.
        filesystem.store.clear()
        yield filesystem
        filesystem.store.clear()
        filesystem.pseudo_dirs[:] = [""]

    @pytest.fixture
    def target(self, filesystem: Any) -> Target:
        return open_target(f"memory://bucket-{uuid4().hex[:6]}/art/fox.png")

    def stored(self, filesystem: Any) -> dict[str, bytes]:
        return {name.rpartition("/")[2]: file.getvalue() for name, file in filesystem.store.items()}

    def test_gets_the_bytes_and_the_sidecar(
        self, bfl: Bfl, bodies: dict[str, bytes], filesystem: Any, target: Target
    ) -> None:
        landed = bfl.land(target)
        assert landed.uri == target.uri
        assert self.stored(filesystem)["fox.png"] == bodies["png"]
        assert set(self.stored(filesystem)) == {"fox.png", "fox.png.json"}
        assert find_landed(target) == landed

    def test_gets_names_below_a_directory(self, bfl: Bfl, filesystem: Any) -> None:
        target = open_target("memory://bucket/art/")
        landed = bfl.land(target)
        assert landed.uri.startswith("memory://bucket/art/d/")
        assert find_landed(target, uri=landed.uri) == landed

    def test_never_shows_a_half_object(self, filesystem: Any, target: Target) -> None:
        with pytest.raises(StoreFaultError):
            target.store.put(target.key, Contents(Breaking(b"whole"), 5, "image/png"), create_only=False)
        assert self.stored(filesystem) == {}

    def test_that_stores_less_than_it_was_given_is_not_believed(
        self, filesystem: Any, target: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "copyfileobj", lambda source, sink, length: sink.write(source.read(3)))
        with pytest.raises(StoreFaultError, match="3 of 5 bytes"):
            target.store.put(target.key, contents(), create_only=False)
        assert self.stored(filesystem) == {}

    @pytest.mark.parametrize("if_exists", ["overwrite", "skip", "error"])
    def test_takes_the_same_bytes_again(self, bfl: Bfl, target: Target, if_exists: Any) -> None:
        assert bfl.land(target, if_exists=if_exists) == bfl.land(target, if_exists=if_exists)

    def test_keeps_what_is_there(self, bfl: Bfl, bodies: dict[str, bytes], filesystem: Any, target: Target) -> None:
        bfl.other(bodies["webp"]).land(target)
        assert bfl.land(target, if_exists="skip").id == "gen-2"
        with pytest.raises(BflObjectExistsError):
            bfl.land(target, if_exists="error")
        assert self.stored(filesystem)["fox.png"] == bodies["webp"]
        with pytest.raises(NameTakenError):
            target.store.put(target.key, contents(), create_only=True)
        assert set(self.stored(filesystem)) == {"fox.png", "fox.png.json"}

    def test_is_replaced_when_asked(self, bfl: Bfl, bodies: dict[str, bytes], filesystem: Any, target: Target) -> None:
        bfl.other(bodies["webp"]).land(target)
        bfl.land(target, if_exists="overwrite")
        assert self.stored(filesystem)["fox.png"] == bodies["png"]
