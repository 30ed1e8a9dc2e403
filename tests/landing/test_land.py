# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest

from airflow_provider_bfl.api.messages import Phase, PollResult
from airflow_provider_bfl.exceptions import (
    BflDownloadError,
    BflObjectExistsError,
    BflPollError,
    BflResultExpiredError,
    BflResultTooLargeError,
    BflStorageError,
    BflUntrustedUrlError,
)
from airflow_provider_bfl.landing import Target, find_landed, open_target
from airflow_provider_bfl.landing.files import FileStore
from airflow_provider_bfl.landing.store import Contents, StoreFaultError

if TYPE_CHECKING:
    from tests.landing.conftest import Bfl

EXPIRED = BflResultExpiredError("The delivery server refused the signed URL with 403: it has expired.")
CUT = BflDownloadError("The result was cut: 3 of 9 bytes arrived.")


def at(path: Path) -> Target:
    return open_target(f"file://{path}")


def files(root: Path) -> list[str]:
    return sorted(str(each.relative_to(root)) for each in root.rglob("*") if each.is_file())


class Troubled(FileStore):
    """A store that has trouble with the next puts."""

    def __init__(self, faults: list[StoreFaultError], *, only: str = "") -> None:
        self.faults = faults
        self.only = only
        self.puts = 0

    def put(self, key: str, contents: Contents, *, create_only: bool) -> None:
        self.puts += 1
        if self.faults and key.endswith(self.only):
            contents.body.read(5)
            raise self.faults.pop(0)
        super().put(key, contents, create_only=create_only)


def passing(times: int) -> list[StoreFaultError]:
    return [StoreFaultError("the store is busy", permanent=False) for _ in range(times)]


class TestALandedResult:
    def test_the_stored_bytes_are_bfls_own(self, bfl: Bfl, bodies: dict[str, bytes], tmp_path: Path) -> None:
        landed = bfl.land(at(tmp_path / "fox.png"))
        assert (tmp_path / "fox.png").read_bytes() == bodies["png"]
        assert landed.sha256 == hashlib.sha256(bodies["png"]).hexdigest()
        assert landed.size == len(bodies["png"])
        assert landed.uri == f"file://{tmp_path}/fox.png"

    def test_it_has_the_facts_of_the_generation(self, bfl: Bfl, tmp_path: Path) -> None:
        bfl.generation = replace(bfl.generation, reattached=True, possibly_billed_twice=True)
        landed = bfl.land(at(tmp_path / "fox.png"))
        assert (landed.id, landed.model, landed.status, landed.seed) == ("gen-1", "flux-2-pro", "Ready", 42)
        assert (landed.cost, landed.submitted_at, landed.landed_at) == (3.5, 1_700_000_000.0, 1_700_000_010.0)
        assert landed.content_type == "image/png"
        assert landed.reattached
        assert landed.possibly_billed_twice

    def test_a_cost_settled_at_the_end_wins(self, bfl: Bfl, tmp_path: Path) -> None:
        bfl.result = replace(bfl.result, cost=9.25)
        assert bfl.land(at(tmp_path / "fox.png")).cost == 9.25

    def test_its_age_is_the_delivery_servers(self, bfl: Bfl, tmp_path: Path) -> None:
        landed = bfl.land(at(tmp_path / "fox.png"))
        assert (landed.ready_at, landed.url_age_seconds) == (1_700_000_003.0, 4.5)

    def test_without_the_servers_word_age_counts_from_first_sight(self, bfl: Bfl, tmp_path: Path) -> None:
        bfl.ready_at = bfl.age_seconds = None
        bfl.deliveries = [CUT, *bfl.deliveries]
        started = bfl.now
        bfl.sleep = lambda seconds: setattr(bfl, "now", bfl.now + 7)  # type: ignore[method-assign]
        landed = bfl.land(at(tmp_path / "fox.png"))
        assert (landed.ready_at, landed.url_age_seconds) == (started, 7.0)

    def test_the_sidecar_lies_beside_it(self, bfl: Bfl, tmp_path: Path) -> None:
        landed = bfl.land(at(tmp_path / "fox.png"))
        assert landed.sidecar_uri == f"file://{tmp_path}/fox.png.json"
        sidecar = json.loads((tmp_path / "fox.png.json").read_bytes())
        assert {name: sidecar[name] for name in landed.as_xcom()} == landed.as_xcom()
        assert sidecar["request"]["prompt"] == "a red fox"
        assert sidecar["region"] == "eu"
        assert sidecar["task"]["dag_id"] == "d"

    def test_the_prompt_stays_out_where_it_may_not_be_recorded(self, bfl: Bfl, tmp_path: Path) -> None:
        bfl.land(at(tmp_path / "fox.png"), record_prompt=False)
        assert b"a red fox" not in (tmp_path / "fox.png.json").read_bytes()

    def test_another_format_than_asked_lands_as_what_it_is(
        self, bfl: Bfl, bodies: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        bfl.deliveries = [bodies["webp"]]
        with caplog.at_level(logging.WARNING):
            landed = bfl.land(open_target(f"file://{tmp_path}/"), output_format="png")
        assert landed.content_type == "image/webp"
        assert landed.uri.endswith(".webp")
        assert "gen-1" in caplog.text
        assert "image/webp" in caplog.text


class TestNamesBelowADirectory:
    def test_are_made_of_the_task_and_the_generation(self, bfl: Bfl, tmp_path: Path) -> None:
        bfl.generation = replace(bfl.generation, task={**bfl.generation.task, "run_id": "r", "map_index": 3})
        bfl.land(open_target(f"file://{tmp_path}/out/"))
        assert files(tmp_path) == ["out/d/r/t/3/gen-1.png", "out/d/r/t/3/gen-1.png.json"]

    def test_are_the_same_when_it_lands_again(self, bfl: Bfl, tmp_path: Path) -> None:
        target = open_target(f"file://{tmp_path}/out/")
        assert bfl.land(target).uri == bfl.land(target).uri
        assert len(files(tmp_path)) == 2

    def test_differ_between_generations_and_map_indexes(
        self, bfl: Bfl, bodies: dict[str, bytes], tmp_path: Path
    ) -> None:
        target = open_target(f"file://{tmp_path}/out/")
        uris = set()
        for map_index in (-1, 0, 1):
            for each in (bfl, bfl.other(bodies["png"])):
                each.generation = replace(each.generation, task={**each.generation.task, "map_index": map_index})
                uris.add(each.land(target).uri)
        assert len(uris) == 6

    def test_stay_below_it_whatever_the_ids_are(self, bfl: Bfl, tmp_path: Path) -> None:
        bfl.generation = replace(bfl.generation, id="../../../escaped", task={"dag_id": "..", "task_id": "/t"})
        landed = bfl.land(open_target(f"file://{tmp_path}/out/"))
        assert Path(landed.uri.removeprefix("file://")).resolve().is_relative_to(tmp_path / "out")

    def test_can_be_given(self, bfl: Bfl, tmp_path: Path) -> None:
        bfl.land(open_target(f"file://{tmp_path}/out/"), stem="batch/fox")
        assert files(tmp_path) == ["out/batch/fox.png", "out/batch/fox.png.json"]

    def test_that_are_given_stay_below_it_too(self, bfl: Bfl, tmp_path: Path) -> None:
        landed = bfl.land(open_target(f"file://{tmp_path}/out/"), stem="/../../../fox")
        assert Path(landed.uri.removeprefix("file://")).resolve().is_relative_to(tmp_path / "out")


class TestABodyThatIsNotWholeIsFetchedAgain:
    @pytest.mark.parametrize("output_format", ["png", "jpeg", "webp", "mp4"])
    def test_a_cut_one_never_shows_under_the_final_name(
        self, bfl: Bfl, bodies: dict[str, bytes], tmp_path: Path, output_format: str
    ) -> None:
        whole = bodies[output_format]
        bfl.deliveries = [whole[: len(whole) // 2]]
        with pytest.raises(BflDownloadError, match=r"gen-1.*generated and billed.*without generating"):
            bfl.land(at(tmp_path / "fox"), output_format=output_format)
        assert files(tmp_path) == []

    def test_the_whole_one_of_the_next_try_is_stored(self, bfl: Bfl, bodies: dict[str, bytes], tmp_path: Path) -> None:
        whole = bodies["png"]
        bfl.deliveries = [whole + b"\0" * 99, b"<html>busy</html>" * 99, whole]
        bfl.deliveries[0] = whole[:-3]
        landed = bfl.land(at(tmp_path / "fox.png"))
        assert (tmp_path / "fox.png").read_bytes() == whole
        assert landed.size == len(whole)
        assert bfl.slept == sorted(bfl.slept)
        assert len(bfl.slept) == 2

    def test_a_download_that_breaks_is_repeated_a_few_times(self, bfl: Bfl, tmp_path: Path) -> None:
        def breaks(sink: BinaryIO) -> None:
            sink.write(b"x" * 1_000_000)
            raise CUT

        bfl.deliveries = [breaks]
        with pytest.raises(BflDownloadError, match="3 of 9 bytes arrived") as failure:
            bfl.land(at(tmp_path / "fox.png"))
        assert len(bfl.downloads) == 3
        assert bfl.polls == 0
        assert (failure.value.generation_id, failure.value.model) == ("gen-1", "flux-2-pro")

    def test_one_that_is_too_large_is_refused_once_and_for_good(self, bfl: Bfl, tmp_path: Path) -> None:
        bfl.deliveries = [BflResultTooLargeError("The result is 9 bytes, more than the 5 that are accepted.")]
        with pytest.raises(BflResultTooLargeError, match=r"gen-1.*generated and billed.*9 bytes") as failure:
            bfl.land(at(tmp_path / "fox.png"))
        assert (len(bfl.downloads), bfl.slept, files(tmp_path)) == (1, [], [])
        assert (failure.value.generation_id, failure.value.model) == ("gen-1", "flux-2-pro")

    def test_ready_without_a_url_is_no_crash(self, bfl: Bfl, tmp_path: Path) -> None:
        bfl.result = replace(bfl.result, sample=None)
        with pytest.raises(BflDownloadError, match="gives no URL"):
            bfl.land(at(tmp_path / "fox.png"))
        assert bfl.downloads == []

    def test_an_untrusted_url_is_not_tried_again(self, bfl: Bfl, tmp_path: Path) -> None:
        refusal = BflUntrustedUrlError("not a delivery host")
        bfl.deliveries = [refusal]
        with pytest.raises(BflUntrustedUrlError) as failure:
            bfl.land(at(tmp_path / "fox.png"))
        assert failure.value is refusal
        assert len(bfl.downloads) == 1
        assert bfl.slept == []


class TestAnExpiredUrl:
    def test_is_asked_for_once_more_and_the_fresh_one_used(self, bfl: Bfl, tmp_path: Path) -> None:
        bfl.deliveries = [EXPIRED, *bfl.deliveries]
        bfl.fresh = replace(bfl.result, sample="https://delivery.eu.bfl.ai/fresh?sig=2", seed=43)
        landed = bfl.land(at(tmp_path / "fox.png"))
        assert bfl.polls == 1
        assert bfl.downloads[-1] == "https://delivery.eu.bfl.ai/fresh?sig=2"
        assert landed.seed == 43

    def test_the_same_url_again_is_tried_once(self, bfl: Bfl, tmp_path: Path) -> None:
        bfl.deliveries = [EXPIRED]
        with pytest.raises(BflResultExpiredError) as failure:
            bfl.land(at(tmp_path / "fox.png"))
        assert (bfl.polls, len(bfl.downloads)) == (1, 2)
        assert bfl.slept == []
        for words in ("gen-1", "billed", "A retry asks BFL again at no cost", "force_new"):
            assert words in str(failure.value)
        assert (failure.value.generation_id, failure.value.model) == ("gen-1", "flux-2-pro")

    @pytest.mark.parametrize(
        "fresh",
        [
            PollResult(id="gen-1", status="Task not found", phase=Phase.NOT_FOUND),
            PollResult(id="gen-1", status="Pending", phase=Phase.RUNNING, sample="https://delivery.eu.bfl.ai/x"),
        ],
    )
    def test_a_generation_bfl_has_forgotten_stays_expired(self, bfl: Bfl, fresh: PollResult, tmp_path: Path) -> None:
        bfl.deliveries = [EXPIRED]
        bfl.fresh = fresh
        with pytest.raises(BflResultExpiredError, match=fresh.status):
            bfl.land(at(tmp_path / "fox.png"))
        assert len(bfl.downloads) == 1

    def test_an_error_of_the_poll_passes_through(self, bfl: Bfl, tmp_path: Path) -> None:
        bfl.deliveries = [EXPIRED]

        def poll() -> PollResult:
            raise BflPollError("five times in a row")

        bfl.poll = poll  # type: ignore[method-assign]
        with pytest.raises(BflPollError):
            bfl.land(at(tmp_path / "fox.png"))


class TestAStoreInTrouble:
    def test_is_asked_again_with_the_whole_body(self, bfl: Bfl, bodies: dict[str, bytes], tmp_path: Path) -> None:
        store = Troubled(passing(2))
        bfl.land(Target(store, f"{tmp_path}/fox.png".lstrip("/")))
        assert (tmp_path / "fox.png").read_bytes() == bodies["png"]
        assert len(bfl.slept) == 2
        assert bfl.slept == sorted(bfl.slept)
        assert len(bfl.downloads) == 1

    def test_for_good_ends_with_what_to_know(self, bfl: Bfl, tmp_path: Path) -> None:
        store = Troubled(passing(99))
        with pytest.raises(BflStorageError) as failure:
            bfl.land(Target(store, f"{tmp_path}/fox.png".lstrip("/")))
        for words in ("gen-1", f"file://{tmp_path}/fox.png", "billed", "the store is busy", "without generating"):
            assert words in str(failure.value)
        assert store.puts == 4
        assert files(tmp_path) == []

    def test_that_cannot_pass_is_not_asked_again(self, bfl: Bfl, tmp_path: Path) -> None:
        store = Troubled([StoreFaultError("allow s3:PutObject", permanent=True)])
        with pytest.raises(BflStorageError, match="allow s3:PutObject"):
            bfl.land(Target(store, f"{tmp_path}/fox.png".lstrip("/")))
        assert store.puts == 1
        assert bfl.slept == []

    def test_at_the_sidecar_is_a_failure_that_a_retry_mends(self, bfl: Bfl, tmp_path: Path) -> None:
        store = Troubled(passing(4), only=".json")
        target = Target(store, f"{tmp_path}/fox.png".lstrip("/"))
        with pytest.raises(BflStorageError, match=r"fox\.png\.json"):
            bfl.land(target, if_exists="error")
        assert files(tmp_path) == ["fox.png"]
        bfl.land(target, if_exists="error")
        assert files(tmp_path) == ["fox.png", "fox.png.json"]

    def test_leaves_no_temporary_file(self, bfl: Bfl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "tmp").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
        with pytest.raises(BflStorageError):
            bfl.land(Target(Troubled(passing(99)), f"{tmp_path}/fox.png".lstrip("/")))
        assert files(tmp_path) == []


class TestAnObjectOfThatNameIsThere:
    @pytest.fixture
    def target(self, bfl: Bfl, tmp_path: Path, bodies: dict[str, bytes]) -> Target:
        target = at(tmp_path / "fox.png")
        bfl.other(bodies["webp"]).land(target)
        return target

    def test_overwrite_replaces_it_and_its_sidecar(
        self, bfl: Bfl, target: Target, tmp_path: Path, bodies: dict[str, bytes]
    ) -> None:
        bfl.land(target, if_exists="overwrite")
        assert (tmp_path / "fox.png").read_bytes() == bodies["png"]
        assert json.loads((tmp_path / "fox.png.json").read_bytes())["id"] == "gen-1"

    def test_skip_keeps_it_and_downloads_nothing(
        self, bfl: Bfl, target: Target, tmp_path: Path, bodies: dict[str, bytes]
    ) -> None:
        landed = bfl.land(target, if_exists="skip")
        assert bfl.downloads == []
        assert landed.id == "gen-2"
        assert (tmp_path / "fox.png").read_bytes() == bodies["webp"]

    def test_skip_keeps_one_that_came_meanwhile(self, bfl: Bfl, tmp_path: Path, bodies: dict[str, bytes]) -> None:
        target = at(tmp_path / "fox.png")
        download = bfl.download

        def slow_download(url: str, sink: BinaryIO) -> Any:
            bfl.other(bodies["webp"]).land(target)
            return download(url, sink)

        bfl.download = slow_download  # type: ignore[method-assign]
        landed = bfl.land(target, if_exists="skip")
        assert landed.id == "gen-2"
        assert (tmp_path / "fox.png").read_bytes() == bodies["webp"]
        assert json.loads((tmp_path / "fox.png.json").read_bytes())["id"] == "gen-2"

    def test_error_fails_and_leaves_it_alone(
        self, bfl: Bfl, target: Target, tmp_path: Path, bodies: dict[str, bytes]
    ) -> None:
        with pytest.raises(BflObjectExistsError, match=r"fox\.png.*gen-1.*billed"):
            bfl.land(target, if_exists="error")
        assert (tmp_path / "fox.png").read_bytes() == bodies["webp"]
        assert json.loads((tmp_path / "fox.png.json").read_bytes())["id"] == "gen-2"

    def test_error_also_when_it_has_the_same_size(self, bfl: Bfl, tmp_path: Path, bodies: dict[str, bytes]) -> None:
        (tmp_path / "fox.png").write_bytes(b"x" * len(bodies["png"]))
        with pytest.raises(BflObjectExistsError):
            bfl.land(at(tmp_path / "fox.png"), if_exists="error")

    @pytest.mark.parametrize("if_exists", ["overwrite", "skip", "error"])
    def test_the_same_bytes_are_a_success_under_every_policy(self, bfl: Bfl, tmp_path: Path, if_exists: Any) -> None:
        target = at(tmp_path / "fox.png")
        first = bfl.land(target, if_exists=if_exists)
        again = bfl.land(target, if_exists=if_exists)
        assert again == first
        assert files(tmp_path) == ["fox.png", "fox.png.json"]


class TestFindingWhatIsLanded:
    def test_nothing_there(self, tmp_path: Path) -> None:
        assert find_landed(at(tmp_path / "fox.png")) is None

    def test_the_result_of_its_generation(self, bfl: Bfl, tmp_path: Path) -> None:
        landed = bfl.land(at(tmp_path / "fox.png"))
        assert find_landed(at(tmp_path / "fox.png")) == landed

    def test_below_a_directory_by_the_uri_that_was_recorded(self, bfl: Bfl, tmp_path: Path) -> None:
        target = open_target(f"file://{tmp_path}/out/")
        landed = bfl.land(target)
        assert find_landed(target, uri=landed.uri) == landed
        assert find_landed(target, uri="s3://elsewhere/fox.png") is None
        assert find_landed(target) is None

    def test_an_object_without_a_sidecar_is_described_by_its_store(self, tmp_path: Path) -> None:
        (tmp_path / "fox.png").write_bytes(b"12345")
        landed = find_landed(at(tmp_path / "fox.png"))
        assert landed is not None
        assert (landed.uri, landed.size, landed.id) == (f"file://{tmp_path}/fox.png", 5, None)

    def test_the_sidecar_of_a_predecessor_is_not_believed(self, bfl: Bfl, tmp_path: Path) -> None:
        bfl.land(at(tmp_path / "fox.png"))
        (tmp_path / "fox.png").write_bytes(b"another")
        landed = find_landed(at(tmp_path / "fox.png"))
        assert landed is not None
        assert (landed.size, landed.id) == (7, None)

    def test_a_store_that_cannot_be_asked_is_an_error_and_not_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "fox.png").mkdir()
        with pytest.raises(BflStorageError, match="directory"):
            find_landed(at(tmp_path / "fox.png"))


class TestNoSignedUrlGetsOut:
    def test_of_results_sidecars_logs_and_errors(
        self, bfl: Bfl, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        target = at(tmp_path / "fox.png")
        bfl.deliveries = [CUT, EXPIRED, *bfl.deliveries]
        seen = [repr(bfl.land(target)), (tmp_path / "fox.png.json").read_text()]
        bfl.deliveries = [EXPIRED]
        with pytest.raises(BflResultExpiredError) as expired:
            bfl.land(target)
        bfl.deliveries = [b"<html>"]
        with pytest.raises(BflDownloadError) as refused:
            bfl.land(target)
        seen += [str(expired.value), str(refused.value), caplog.text]
        assert "gen-1" in caplog.text
        assert not [each for each in seen if "CANARY" in each or "?se=" in each]
