# SPDX-License-Identifier: Apache-2.0
"""
What OpenLineage learns of a landed generation: the media it was made from, the object it became, its facts.

No prompt, no signed URL, no key. Imported only by tasks of an Airflow that has the OpenLineage provider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import attrs
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.generated.base import InputDataset, OutputDataset, RunFacet
from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet

_FACTS = ("id", "model", "seed", "cost", "sha256", "content_type", "reattached", "possibly_billed_twice")


@attrs.define
class BflGenerationRunFacet(RunFacet):
    """The generation behind a run."""

    id: str | None
    model: str | None
    seed: int | None
    cost: float | None
    sha256: str | None
    content_type: str | None
    reattached: bool
    possibly_billed_twice: bool


def lineage_of(landed: Mapping[str, Any] | None, *, media: Sequence[str] = ()) -> OperatorLineage[Any, Any]:
    """
    Return the lineage of a task.

    :param landed: The landed result; None for a task that landed nothing.
    :param media: The URIs of what the generation was made from.
    """
    inputs = [InputDataset(*_place(uri)) for uri in media]
    if landed is None:
        return OperatorLineage(inputs=inputs)
    statistics = OutputStatisticsOutputDatasetFacet(size=landed["size"], fileCount=1)
    output = OutputDataset(*_place(landed["uri"]), outputFacets={"outputStatistics": statistics})
    facet = BflGenerationRunFacet(**{name: landed[name] for name in _FACTS})
    return OperatorLineage(inputs=inputs, outputs=[output], run_facets={"bfl_generation": facet})


def _place(uri: str) -> tuple[str, str]:
    """Return namespace and name by OpenLineage's conventions, without a connection id, query and fragment."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return "file", parts.path
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.strip("/") or "/"
