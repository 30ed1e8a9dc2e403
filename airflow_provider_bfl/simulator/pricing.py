# SPDX-License-Identifier: Apache-2.0
"""What a request costs, by BFL's published formula and the price facts of the catalogue. One credit is a US cent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from airflow_provider_bfl.api.catalogue import Model
from airflow_provider_bfl.simulator.artwork import (
    MEGAPIXEL,
    clip_seconds,
    fields_of,
    output_size,
    reference_sizes,
)
from airflow_provider_bfl.simulator.tasks import Quote

#: For the endpoints whose price BFL does not publish.
_UNPUBLISHED_CREDITS = 5.0


def quote(model: Model, body: Mapping[str, Any]) -> Quote:
    """
    Price a valid request.

    FLUX.2: first megapixel, plus each further one of the result, plus each one of the references, where the result
    and every reference are rounded up on their own. The others have a price per image or per second.

    :param model: The endpoint, with its price facts.
    :param body: The request.
    """
    width, height = output_size(model, body)
    output_mp = width * height / MEGAPIXEL
    price = model.price
    if price is None:
        return Quote(_UNPUBLISHED_CREDITS)
    if price["unit"] == "megapixel":
        return _by_megapixel(price, output_mp, references_mp(model, body))
    rate = _rate(model, price, body)
    if price["unit"] == "image":
        return Quote(rate, output_mp=round(output_mp, 2), echoed=model.slug.startswith(("flux-tools/", "flux-3-")))
    amount = clip_seconds(body)
    if price["unit"] == "megapixel-second":
        amount *= output_mp
    return Quote(round(rate * amount, 4), output_mp=round(output_mp, 2), settled=True)


def references_mp(model: Model, body: Mapping[str, Any]) -> list[float]:
    """
    Megapixels of each reference as billed: several are each reduced to one megapixel, a single one keeps its size.
    """
    sizes = [width * height / MEGAPIXEL for width, height in reference_sizes(model, body)]
    return [min(1.0, size) for size in sizes] if len(sizes) > 1 else sizes


def _by_megapixel(price: Mapping[str, Any], output_mp: float, references: list[float]) -> Quote:
    further = max(1, math.ceil(output_mp)) - 1
    given = sum(math.ceil(size) for size in references)
    cost = price["first_output_mp"] + further * price["extra_output_mp"] + given * price["input_mp"]
    return Quote(cost, input_mp=round(math.fsum(references), 2), output_mp=round(output_mp, 2), echoed=True)


def _rate(model: Model, price: Mapping[str, Any], body: Mapping[str, Any]) -> float:
    """Look up the credits per unit, which may depend on one field (``by``) and, for video, on the resolution."""
    rates = price["credits"]
    if not isinstance(rates, Mapping):
        return float(rates)
    default = fields_of(model, body).get(price["by"], {}).get("default")
    chosen = model.canonical(price["by"], body.get(price["by"], default))
    rate = rates.get(str(chosen), next(iter(rates.values())))
    if not isinstance(rate, Mapping):
        return float(rate)
    level = "draft" if body.get("draft") is True else str(body.get("resolution") or "hd")
    return float(rate.get(level, rate["hd"]))
