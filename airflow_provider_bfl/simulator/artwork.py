# SPDX-License-Identifier: Apache-2.0
"""What a request asks to be drawn: size, format, seed and the prompt the result will report."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_bfl.api.catalogue import Model
from airflow_provider_bfl.simulator.images import image_size
from airflow_provider_bfl.simulator.tasks import Artwork

MEGAPIXEL = 1_048_576
_MAX_SEED = 2**31 - 1
_MAX_FLUX_2_INPUT_PX = 4 * MEGAPIXEL

#: FLUX.2 rewrites prompts unless told not to; klein and everything else takes them literally.
_UPSAMPLING = frozenset({"flux-2-max", "flux-2-pro", "flux-2-pro-preview", "flux-2-flex"})
_UPSAMPLED_TAIL = " The scene is rendered in rich detail with natural light and balanced composition."

_FLUX_3_IMAGE_PX = {"768sq": 768**2, "1k": MEGAPIXEL, "1.5k": 1536**2, "2k": 2048**2, "4k": 4096**2}
_VIDEO_LINES = {"hd": 720, "fhd": 1080, "qhd": 1440, "uhd": 2160}
_ULTRA_PX = 2752 * 1536
_DEFAULT_SIZE = (1024, 1024)


def artwork_of(model: Model, body: Mapping[str, Any], dice: random.Random) -> Artwork:
    """
    Turn a valid request into what has to be drawn.

    :param model: The endpoint.
    :param body: The request.
    :param dice: Where the seed comes from when the request has none.
    """
    seed = body.get("seed")
    width, height = output_size(model, body)
    prompt = body.get("prompt")
    return Artwork(
        prompt=prompt if isinstance(prompt, str) else "",
        seed=seed if isinstance(seed, int) else dice.randint(0, _MAX_SEED),
        width=width,
        height=height,
        format="mp4" if model.kind == "video" else body.get("output_format") or model.default_output_format or "jpeg",
    )


def shown_prompt(model: Model, body: Mapping[str, Any]) -> str:
    """Return the prompt the result reports: rewritten by the models that upsample, unless switched off."""
    prompt = str(body.get("prompt") or "")
    untouched = body.get("disable_pup") is True or body.get("prompt_upsampling") is False
    if not prompt or untouched or model.slug not in _UPSAMPLING:
        return prompt
    return prompt.rstrip(". ") + "." + _UPSAMPLED_TAIL


def clip_seconds(body: Mapping[str, Any]) -> float:
    """Length of a video result: what was asked for, else five seconds."""
    duration = body.get("duration")
    return float(duration) if isinstance(duration, int | float) else 5.0


def reference_sizes(model: Model, body: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """
    Yield width and height of every image given with the request, reduced to what BFL works with.

    One whose size is not known without fetching it (a URL) counts as a megapixel.
    """
    for name in model.media_fields:
        given = body.get(name)
        for value in given if isinstance(given, list) else [given]:
            if isinstance(value, str) and value:
                yield _reduced(image_size(value) or _DEFAULT_SIZE)


def output_size(model: Model, body: Mapping[str, Any]) -> tuple[int, int]:
    """
    Width and height of the result in pixels.

    ``width`` and ``height`` win; then the aspect ratio, for the models that have one; then the first given image;
    then the schema's own defaults; then 1024 x 1024.
    """
    fields = fields_of(model, body)
    if model.kind == "video":
        return _by_ratio(body.get("aspect_ratio"), _video_px(body), 16) or (1280, 720)
    if "aspect_ratio" in fields:
        ratio = body.get("aspect_ratio") or fields["aspect_ratio"].get("default")
        if model.slug.startswith("flux-pro-1.1-ultra"):
            return _by_ratio(ratio, _ULTRA_PX, 32) or _DEFAULT_SIZE
        pixels = _FLUX_3_IMAGE_PX.get(str(body.get("resolution")), MEGAPIXEL)
        return _by_ratio(ratio, pixels, 32) or (math.isqrt(pixels), math.isqrt(pixels))
    first = next(reference_sizes(model, body), _DEFAULT_SIZE)
    if "top" in fields and "left" in fields:
        return first[0] + _side(body, "left", "right"), first[1] + _side(body, "top", "bottom")
    fallback = [_positive(fields.get(name, {}).get("default")) for name in ("width", "height")]
    width, height = (_positive(body.get(name)) for name in ("width", "height"))
    return width or fallback[0] or first[0], height or fallback[1] or first[1]


def fields_of(model: Model, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The properties of the schema this request is judged by."""
    properties: Mapping[str, Any] = (model.variant_for(body) or {}).get("properties", {})
    return properties


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _side(body: Mapping[str, Any], *names: str) -> int:
    return sum(_positive(body.get(name)) or 0 for name in names)


def _video_px(body: Mapping[str, Any]) -> int:
    lines = _VIDEO_LINES.get(str(body.get("resolution")), 720)
    return lines * lines * 16 // 9


def _by_ratio(ratio: Any, pixels: int, step: int) -> tuple[int, int] | None:
    """Sides of an area in a ratio such as ``16:9``, both rounded to a step; None for ``auto`` or no ratio."""
    wide, colon, high = str(ratio).partition(":")
    if not colon or not wide.isdigit() or not high.isdigit() or not int(wide) or not int(high):
        return None
    share = int(wide) / int(high)
    return _rounded(math.sqrt(pixels * share), step), _rounded(math.sqrt(pixels / share), step)


def _rounded(side: float, step: int) -> int:
    return max(step, round(side / step) * step)


def _reduced(size: tuple[int, int]) -> tuple[int, int]:
    """BFL shrinks references above 4 MP and crops sides to multiples of 16."""
    width, height = size
    shrink = min(1.0, math.sqrt(_MAX_FLUX_2_INPUT_PX / (width * height)))
    return max(16, int(width * shrink) // 16 * 16), max(16, int(height * shrink) // 16 * 16)
