# SPDX-License-Identifier: Apache-2.0
"""What each task gives the gallery, and that no task needs it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from airflow_provider_bfl.exceptions import BflModeratedError
from airflow_provider_bfl.landing.preview import PREVIEW_KEY
from airflow_provider_bfl.transfers.bfl_to_object_storage import BflToObjectStorageOperator
from tests.airflow_fixtures import LogRecorder, TaskInstance, World

pytestmark = pytest.mark.airflow3


def preview_of(run: Any) -> dict[str, Any]:
    value: dict[str, Any] = run.xcom[PREVIEW_KEY]
    return value


class TestAGenerationThatLands:
    def test_has_a_thumbnail_and_the_facts_of_the_result(self, bfl: World, deferrable: bool) -> None:
        run = bfl.generation(deferrable=deferrable)

        result = run.attempt()

        preview = preview_of(run)
        assert preview["thumbnail"].startswith("data:image/webp;base64,")
        assert {name: preview[name] for name in ("id", "uri", "seed", "cost", "size", "sha256")} == {
            name: result[name] for name in ("id", "uri", "seed", "cost", "size", "sha256")
        }
        assert (preview["status"], preview["prompt"]) == ("Ready", "a red fox in the snow")

    def test_is_shown_while_it_is_on_its_way(self, bfl: World) -> None:
        run = bfl.generation(deferrable=True)
        seen: list[dict[str, Any]] = []
        run.on_deferral = lambda deferral: seen.append(dict(preview_of(run)))

        run.attempt()

        assert (seen[0]["status"], seen[0]["thumbnail"], seen[0].get("uri")) == ("Submitted", None, None)

    def test_keeps_its_picture_when_it_is_cleared_after_success(self, bfl: World) -> None:
        run = bfl.generation()
        run.attempt()
        first = preview_of(run)["thumbnail"]
        run.clear()
        run.attempt()

        assert bfl.posts == 1
        assert preview_of(run)["thumbnail"] == first

    def test_of_a_video_has_facts_alone(self, bfl: World) -> None:
        run = bfl.generation(model="flux-3-video", parameters={"mode": "t2v"})

        run.attempt()

        assert preview_of(run)["thumbnail"] is None
        assert preview_of(run)["content_type"] == "video/mp4"


class TestOtherTasks:
    def test_that_submit_only_say_so(self, bfl: World) -> None:
        run = bfl.generation(wait_for_completion=False, destination=None)

        run.attempt()

        assert (preview_of(run)["status"], preview_of(run)["model"]) == ("Submitted", "flux-2-pro")

    def test_that_wait_without_landing_tell_the_seed(self, bfl: World) -> None:
        run = bfl.generation(destination=None)

        result = run.attempt()

        assert (preview_of(run)["status"], preview_of(run)["seed"]) == ("Ready", result["seed"])

    def test_that_are_moderated_say_so_and_cost_nothing(self, bfl: World) -> None:
        bfl.simulator.fault("task", final_status="Content Moderated")
        run = bfl.generation()

        with pytest.raises(BflModeratedError):
            run.attempt()

        assert (preview_of(run)["status"], preview_of(run)["cost"]) == ("Content Moderated", 0)

    def test_that_transfer_show_the_same_generation(self, bfl: World) -> None:
        submitted = bfl.submit()
        run = bfl.run(
            BflToObjectStorageOperator,
            polling_url=submitted["polling_url"],
            generation=submitted,
            destination=bfl.destination,
        )

        run.attempt()

        assert preview_of(run)["id"] == submitted["id"]
        assert preview_of(run)["thumbnail"]


class TestWhatIsNotWanted:
    def test_the_prompt_where_prompts_are_not_recorded(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__BFL__RECORD_PROMPTS", "False")
        run = bfl.generation()

        run.attempt()

        assert "red fox" not in json.dumps(preview_of(run))

    def test_any_preview_without_xcoms(self, bfl: World) -> None:
        run = bfl.generation(do_xcom_push=False)

        run.attempt()

        assert PREVIEW_KEY not in run.xcom

    def test_any_preview_where_no_gallery_is(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow.plugins_manager import AirflowPlugin

        monkeypatch.delattr(AirflowPlugin, "react_apps")
        run = bfl.generation()

        run.attempt()

        assert PREVIEW_KEY not in run.xcom


class TestNoTaskFailsForItsPreview:
    @pytest.mark.parametrize("error", [ImportError("no Pillow"), MemoryError(), ValueError("damaged")])
    def test_whatever_goes_wrong_with_the_picture(
        self, bfl: World, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fail(*args: Any) -> Any:
            raise error

        monkeypatch.setattr("airflow_provider_bfl.landing.preview._first_that_fits", fail)
        run = bfl.generation()

        assert run.attempt()["uri"]
        assert preview_of(run)["thumbnail"] is None

    def test_when_the_xcom_cannot_be_stored(
        self, bfl: World, monkeypatch: pytest.MonkeyPatch, log: LogRecorder
    ) -> None:
        def refuse(self: Any, key: str, value: Any) -> None:
            if key == PREVIEW_KEY:
                raise RuntimeError("no room")
            store(self, key, value)

        store = TaskInstance.xcom_push
        monkeypatch.setattr(TaskInstance, "xcom_push", refuse)
        run = bfl.generation()

        assert run.attempt()["uri"]
        assert log.about("The preview could not be stored")

    def test_and_the_stored_bytes_are_bfls_own(self, bfl: World) -> None:
        run = bfl.generation()

        result = run.attempt()

        assert hashlib.sha256(bfl.path_of(result).read_bytes()).hexdigest() == result["sha256"]
