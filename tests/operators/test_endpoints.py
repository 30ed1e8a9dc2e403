# SPDX-License-Identifier: Apache-2.0
"""Every endpoint, from the request to the object in storage."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from PIL import Image

from airflow_provider_bfl.api.catalogue import get_model, model_names
from tests.airflow_fixtures import PNG, World

SEED_ENDPOINTS = (
    "flux-2-max",
    "flux-2-pro-preview",
    "flux-2-pro",
    "flux-2-flex",
    "flux-2-klein-4b",
    "flux-2-klein-9b-preview",
    "flux-2-klein-9b",
    "flux-kontext-max",
    "flux-kontext-pro",
    "flux-pro-1.1-ultra",
    "flux-pro-1.1",
    "flux-pro",
    "flux-dev",
)

#: The start of an MP4 is all that anybody looks at.
MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2"

_VALUES = {"prompt": "a red fox in the snow", "finetune_id": "my-finetune", "width": 1024, "height": 1024}


def least_request(slug: str) -> dict[str, Any]:
    """Return a request with only the fields the endpoint requires."""
    model = get_model(slug)
    variant = model.variants[0]
    request = {name: _VALUES[name] for name in variant.get("required", ()) if name in _VALUES}
    for name in variant.get("required", ()):
        if name in model.media_fields:
            request[name] = base64.b64encode(MP4 if "video" in name else PNG).decode()
    if model.discriminator:
        request[model.discriminator] = variant["properties"][model.discriminator]["const"]
    return request


class TestEverySeedEndpointGeneratesAndLands:
    @pytest.mark.parametrize("model", SEED_ENDPOINTS)
    def test_the_picture_and_its_sidecar_are_stored(self, bfl: World, model: str, deferrable: bool) -> None:
        result = bfl.generation(model=model, deferrable=deferrable).attempt()

        stored = bfl.path_of(result)
        with Image.open(stored) as picture:
            picture.load()
            assert picture.format == {"image/jpeg": "JPEG", "image/png": "PNG"}[result["content_type"]]
        assert hashlib.sha256(stored.read_bytes()).hexdigest() == result["sha256"]
        assert stored.stat().st_size == result["size"]
        sidecar = json.loads(stored.with_name(f"{stored.name}.json").read_text())
        (task,) = bfl.simulator.ledger.tasks
        for told in (result, sidecar):
            assert (told["id"], told["model"], told["seed"]) == (task.id, model, task.seed)
        assert sidecar["request"]["prompt"] == "a red fox in the snow"
        assert sidecar["task"]["dag_id"] == "a_dag"


class TestEveryOtherEndpointLandsToo:
    @pytest.mark.parametrize("model", [each for each in model_names() if each not in SEED_ENDPOINTS])
    def test_with_the_fields_it_requires(self, bfl: World, model: str) -> None:
        result = bfl.generation(model=model, prompt=None, parameters=least_request(model)).attempt()

        is_video = get_model(model).kind == "video"
        assert result["uri"].endswith(".mp4") is is_video
        assert result["content_type"].startswith("video/" if is_video else "image/")
        assert bfl.path_of(result).stat().st_size == result["size"] > 0
        assert bfl.posts == 1


class TestParametersAreSentVerbatim:
    def test_in_bfls_own_names(self, bfl: World) -> None:
        parameters = {"width": 1024, "height": 768, "seed": 42, "output_format": "png", "safety_tolerance": 5}

        result = bfl.generation(parameters=parameters).attempt()

        assert bfl.simulator.ledger.tasks[0].request == {"prompt": "a red fox in the snow", **parameters}
        assert (result["seed"], result["content_type"]) == (42, "image/png")
