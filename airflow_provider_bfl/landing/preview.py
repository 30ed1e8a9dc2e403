# SPDX-License-Identifier: Apache-2.0
"""
What the gallery shows of a generation: a thumbnail and facts, small enough for the metadata database.

A preview is an ornament. Whatever goes wrong while one is made is logged at DEBUG and leaves it without a picture; it
never fails a task, and it only ever reads the bytes it is made from. It holds no signed URL and no key, and a prompt
only where the sidecar may hold one.
"""

from __future__ import annotations

import base64
import json
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_provider_bfl import __version__
from airflow_provider_bfl.landing.facts import Generation, Landed, iso_time, published_request

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

#: The XCom key.
PREVIEW_KEY = "bfl_preview"

#: Raised when a field changes its meaning; new fields do not raise it.
PREVIEW_SCHEMA_VERSION = 1

#: Of a generation's thumbnail as it is stored, a data URL; for a batch, of all its thumbnails together.
MAX_THUMBNAIL_CHARS = 32 * 1024

#: How many items of a batch are shown: those that landed last.
MAX_TILES = 12
MAX_TILE_CHARS = MAX_THUMBNAIL_CHARS // MAX_TILES

#: BFL's results are far below both. Anything larger is stored as it is and costs no memory for a thumbnail.
MAX_SOURCE_BYTES = 32 * 1024**2
_MAX_SOURCE_PIXELS = 24_000_000

#: What Pillow may try to read: the formats BFL delivers, and no other decoder.
_SOURCE_FORMATS = ("PNG", "JPEG", "WEBP")

#: Longest edge in pixels and WebP quality, from the best down to what fits whatever the picture is.
_STEPS = ((512, 82), (448, 78), (384, 74), (320, 68), (256, 60), (192, 50), (128, 40))
_TILE_STEPS = ((160, 70), (144, 60), (128, 50), (112, 42), (96, 36), (64, 30), (32, 20))

_DATA_URL = "data:image/webp;base64,"
_MAX_PROMPT_CHARS = 2000
_MAX_REQUEST_CHARS = 6000
_MAX_TILE_NAME_CHARS = 120
_MAX_TILE_PROMPT_CHARS = 300


@dataclass(frozen=True)
class Thumbnail:
    """
    A small picture of a result.

    :param data_url: ``data:image/webp;base64,…``.
    :param width: Pixels of the result itself, not of the thumbnail.
    :param height: The same.
    """

    data_url: str
    width: int
    height: int


def can_make_thumbnails() -> bool:
    """Whether the extra ``preview`` is installed."""
    return find_spec("PIL") is not None


def make_thumbnail(body: BinaryIO, size: int, *, tile: bool = False) -> Thumbnail | None:
    """
    Return a thumbnail of an image; None for a video, for what cannot be read, and without Pillow.

    The body is only read, and is left at an arbitrary position.

    :param size: Bytes in ``body``.
    :param tile: Whether it is one of the thumbnails of a batch, which together are as large as the one of a generation.
    """
    try:
        from PIL import Image
    except ImportError:
        log.debug("There is no Pillow, hence no thumbnail: pip install 'airflow-provider-bfl[preview]'")
        return None
    if size > MAX_SOURCE_BYTES:
        return None
    try:
        body.seek(0)
        with Image.open(body, formats=_SOURCE_FORMATS) as source:
            width, height = source.size
            if width * height > _MAX_SOURCE_PIXELS:
                return None
            steps, limit = (_TILE_STEPS, MAX_TILE_CHARS) if tile else (_STEPS, MAX_THUMBNAIL_CHARS)
            data_url = _first_that_fits(source, steps, limit)
    except Exception:
        # A decoder may raise anything, and the result is stored all the same.
        log.debug("No thumbnail could be made", exc_info=True)
        return None
    return Thumbnail(data_url, width, height) if data_url else None


def generation_preview(
    generation: Generation,
    *,
    status: str,
    record_prompt: bool,
    seed: int | None = None,
    landed: Mapping[str, Any] | None = None,
    thumbnail: Thumbnail | None = None,
) -> dict[str, Any]:
    """
    Return the preview of one generation, as far as it has come.

    :param generation: What was submitted.
    :param status: BFL's status, or ``Submitted`` while nothing more is known.
    :param record_prompt: Whether it has the prompt (``[bfl] record_prompts``, as for the sidecar).
    :param seed: The effective seed where nothing was landed.
    :param landed: The landed result as the task returns it; what it says wins.
    """
    known = {
        "id": generation.id,
        "model": generation.model,
        "status": status,
        "seed": seed,
        "cost": generation.cost,
        "submitted_at": iso_time(generation.submitted_at),
        "reattached": generation.reattached,
        "possibly_billed_twice": generation.possibly_billed_twice,
    }
    request = published_request(generation.request or {}, record_prompt=record_prompt)
    return {
        "schema_version": PREVIEW_SCHEMA_VERSION,
        "kind": "generation",
        **known,
        **{name: value for name, value in (landed or {}).items() if value is not None},
        "region": generation.region,
        "prompt": _cut(request.pop("prompt", None)),
        "request": request if len(json.dumps(request, default=str)) <= _MAX_REQUEST_CHARS else None,
        "provider_version": __version__,
        **_picture(thumbnail),
    }


class ContactSheet:
    """
    The items of a batch that landed last, each with a small thumbnail.

    :param record_prompt: Whether it has the prompts.
    """

    def __init__(self, *, record_prompt: bool) -> None:
        self._record_prompt = record_prompt
        self._items: deque[dict[str, Any]] = deque(maxlen=MAX_TILES)

    def add(self, landed: Landed, body: BinaryIO | None, *, name: str, prompt: str | None = None) -> None:
        """
        Add an item; it may be called from several threads.

        :param body: The result's bytes; None where they are not at hand.
        :param name: The item's name in the manifest.
        """
        thumbnail = None if body is None else make_thumbnail(body, landed.size, tile=True)
        facts = ("id", "model", "status", "seed", "cost", "uri", "content_type", "size")
        self._items.append(
            {
                "name": name[:_MAX_TILE_NAME_CHARS],
                **{fact: getattr(landed, fact) for fact in facts},
                "prompt": _cut(prompt, _MAX_TILE_PROMPT_CHARS) if self._record_prompt else None,
                **_picture(thumbnail),
            }
        )

    def preview(
        self,
        *,
        status: str,
        model: str | None,
        total: int,
        counts: Mapping[str, int],
        cost: float | None,
        manifest_uri: str,
        submitted_at: float | None = None,
        landed_at: float | None = None,
    ) -> dict[str, Any]:
        """
        Return the preview of the whole batch.

        :param status: ``Running``, ``Done``, or what else one word says of the batch.
        :param model: The items' model, or None when they have several.
        :param counts: Items by state, as in the manifest.
        :param cost: Credits of all attempts; None when unknown.
        """
        return {
            "schema_version": PREVIEW_SCHEMA_VERSION,
            "kind": "batch",
            "status": status,
            "model": model,
            "total": total,
            "counts": dict(counts),
            "cost": cost,
            "uri": manifest_uri,
            "submitted_at": iso_time(submitted_at),
            "landed_at": iso_time(landed_at),
            "items": list(self._items),
            "provider_version": __version__,
        }


def _first_that_fits(source: Image, steps: Sequence[tuple[int, int]], limit: int) -> str | None:
    edge = steps[0][0]
    source.draft("RGB", (2 * edge, 2 * edge))  # a JPEG is then decoded at a fraction of its size
    # Metadata stays behind: the thumbnail is no provenance, and Exif may say where somebody lives.
    picture = source.convert("RGBA" if source.has_transparency_data else "RGB")
    for edge, quality in steps:
        picture.thumbnail((edge, edge))
        encoded = BytesIO()
        picture.save(encoded, "WEBP", quality=quality, method=4)
        data_url = _DATA_URL + base64.b64encode(encoded.getvalue()).decode()
        if len(data_url) <= limit:
            return data_url
    return None


def _picture(thumbnail: Thumbnail | None) -> dict[str, Any]:
    facts = {"data_url": None, "width": None, "height": None} if thumbnail is None else asdict(thumbnail)
    return {"thumbnail": facts.pop("data_url"), **facts}


def _cut(text: Any, limit: int = _MAX_PROMPT_CHARS) -> str | None:
    if not isinstance(text, str):
        return None
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
