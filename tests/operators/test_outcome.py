# SPDX-License-Identifier: Apache-2.0
"""What asset-driven Dags and OpenLineage learn of a landed generation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_bfl.transfers.bfl_to_object_storage import BflToObjectStorageOperator
from tests.airflow_fixtures import PNG, LogRecorder, World

FACTS = {"id", "uri", "model", "seed", "cost", "sha256"}


def outlet_events() -> Any:
    """Return Airflow's own accessors."""
    try:
        from airflow.sdk.execution_time.context import OutletEventAccessors
    except ImportError:
        from airflow.utils.context import OutletEventAccessors
    return OutletEventAccessors()


def asset(name: str) -> Any:
    return Asset(uri=f"s3://cats/{name}")


class TestTheEventOfAnOutlet:
    def test_has_the_facts(self, bfl: World, deferrable: bool) -> None:
        cats = asset("one")
        run = bfl.generation(outlets=[cats], deferrable=deferrable)
        run.outlet_events = outlet_events()

        result = run.attempt()

        assert run.outlet_events[cats].extra == {name: result[name] for name in FACTS}
        assert run.outlet_events[cats].extra["model"] == "flux-2-pro"
        assert json.loads(json.dumps(run.outlet_events[cats].extra))

    def test_of_a_transfer_has_them_too(self, bfl: World) -> None:
        cats, submitted = asset("one"), bfl.submit()
        run = bfl.run(
            BflToObjectStorageOperator,
            polling_url=submitted["polling_url"],
            generation=submitted,
            destination=bfl.destination,
            outlets=[cats],
        )
        run.outlet_events = outlet_events()

        result = run.attempt()

        assert run.outlet_events[cats].extra == {name: result[name] for name in FACTS}

    def test_of_an_alias_names_the_stored_object(self, bfl: World) -> None:
        alias = AssetAlias("cats")
        run = bfl.generation(outlets=[alias])
        run.outlet_events = outlet_events()

        result = run.attempt()

        told = run.outlet_events[alias]
        (event,) = getattr(told, "asset_alias_events", None) or told.dataset_alias_events
        named = event["dest_dataset_uri"] if isinstance(event, dict) else event.dest_asset_key.uri
        extra = event["extra"] if isinstance(event, dict) else event.extra
        assert (named, extra["sha256"]) == (result["uri"], result["sha256"])

    def test_is_told_again_when_the_stored_object_is_found(self, bfl: World) -> None:
        cats = asset("one")
        run = bfl.generation(outlets=[cats])
        run.outlet_events = outlet_events()
        run.attempt()
        run.clear()
        run.outlet_events = outlet_events()

        result = run.attempt()

        assert result["reattached"] is True
        assert run.outlet_events[cats].extra["uri"] == result["uri"]

    def test_has_no_facts_where_nothing_landed(self, bfl: World) -> None:
        cats = asset("one")
        run = bfl.generation(outlets=[cats], wait_for_completion=False, destination=None)
        run.outlet_events = outlet_events()
        run.attempt()
        assert run.outlet_events[cats].extra == {}

    def test_does_not_fail_the_task_when_it_cannot_be_made(self, bfl: World, log: LogRecorder) -> None:
        run = bfl.generation(outlets=[asset("one")])  # and no accessors in the context

        result = run.attempt()

        assert result["status"] == "Ready"
        assert len(log.about(f"Generation {result['id']}: no asset event")) == 1


class TestTheLineage:
    def lineage(self, run: Any) -> Any:
        return run.operators[-1].get_openlineage_facets_on_complete(None)

    def test_has_the_object_as_output_and_the_generation_as_a_facet(self, bfl: World, deferrable: bool) -> None:
        run = bfl.generation(deferrable=deferrable)
        result = run.attempt()

        lineage = self.lineage(run)

        (output,) = lineage.outputs
        assert (output.namespace, output.name) == ("file", str(bfl.path_of(result)))
        assert output.outputFacets["outputStatistics"].size == result["size"]
        facet = lineage.run_facets["bfl_generation"]
        assert (facet.id, facet.model, facet.seed, facet.sha256) == (
            result["id"],
            "flux-2-pro",
            result["seed"],
            result["sha256"],
        )
        assert lineage.inputs == []

    def test_has_media_as_inputs_without_connection_or_signature(
        self, bfl: World, deferrable: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        photo = bfl.root / "in" / "chair.png"
        photo.parent.mkdir()
        photo.write_bytes(PNG)
        monkeypatch.setenv("AIRFLOW__BFL__ALLOW_LOCAL_FILES", str(photo.parent))
        parameters = {"input_image": f"file://{photo}", "input_image_2": "https://cdn.example/a.png?sig=CANARY"}
        run = bfl.generation(parameters=parameters, deferrable=deferrable)
        run.attempt()

        lineage = self.lineage(run)

        assert [(each.namespace, each.name) for each in lineage.inputs] == [
            ("file", str(photo)),
            ("https://cdn.example", "a.png"),
        ]
        assert "CANARY" not in str(lineage)

    def test_has_neither_prompt_nor_base64(self, bfl: World) -> None:
        import base64

        picture = base64.b64encode(PNG).decode()
        run = bfl.generation(prompt="CANARY words", parameters={"input_image": picture})
        run.attempt()

        text = str(self.lineage(run))

        assert "CANARY" not in text
        assert picture not in text
        assert self.lineage(run).inputs == []

    def test_of_a_submit_has_no_output(self, bfl: World) -> None:
        run = bfl.generation(wait_for_completion=False, destination=None)
        run.attempt()
        assert (self.lineage(run).outputs, self.lineage(run).run_facets) == ([], {})

    def test_of_a_transfer_has_the_object(self, bfl: World) -> None:
        run = bfl.run(BflToObjectStorageOperator, polling_url=bfl.submit()["polling_url"], destination=bfl.destination)
        result = run.attempt()

        (output,) = self.lineage(run).outputs
        assert output.name == str(bfl.path_of(result))

    @pytest.mark.parametrize(
        ("uri", "place"),
        [
            ("s3://conn@cats/a/b.png", ("s3://cats", "a/b.png")),
            ("gs://cats/b.png", ("gs://cats", "b.png")),
            ("abfss://box@account.dfs.core.windows.net/b.png", ("abfss://account.dfs.core.windows.net", "b.png")),
            ("https://user:word@host/b.png?sig=x#y", ("https://host", "b.png")),
        ],
    )
    def test_names_places_by_openlineages_conventions(self, uri: str, place: tuple[str, str]) -> None:
        from airflow_provider_bfl.operators.lineage import lineage_of

        (dataset,) = lineage_of(None, media=[uri]).inputs
        assert (dataset.namespace, dataset.name) == place
