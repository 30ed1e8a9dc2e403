# SPDX-License-Identifier: Apache-2.0
"""
Pictures drawn from the request: the same prompt, seed, size and format always give the same bytes.

Everything is drawn small and scaled up, which keeps a megapixel under a tenth of a second. Pillow is imported only
when something is drawn, so that the rest of the simulator can be imported without the ``simulator`` extra.
"""

from __future__ import annotations

import base64
import binascii
import colorsys
import hashlib
import math
import random
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING

from airflow_provider_bfl.simulator.tasks import Artwork

if TYPE_CHECKING:
    from PIL import Image

_CANVAS_PX = 768
_RIDGES = 5
_RIDGE_STEP_PX = 6
_HALO_RINGS = 4
_CAPTION_WORDS = 6

#: Enough of a file to hold the header of an image with a usual amount of metadata.
_HEADER_BASE64_CHARS = 88_000

_SAVE_OPTIONS: dict[str, dict[str, int]] = {
    "jpeg": {"quality": 88},
    "png": {"compress_level": 1},
    "webp": {"quality": 80, "method": 0},
}


@lru_cache(maxsize=64)
def draw(artwork: Artwork) -> bytes:
    """
    Draw and encode a picture.

    :param artwork: What to draw; ``format`` is ``jpeg``, ``png`` or ``webp``.
    """
    from PIL import Image

    dice = random.Random(_digest(artwork))
    scale = min(1.0, _CANVAS_PX / max(artwork.width, artwork.height))
    hue = dice.random()
    scene = _sky(hue, max(1, round(artwork.width * scale)), max(1, round(artwork.height * scale)))
    _sun(dice, scene, hue)
    _ridges(dice, scene, hue)
    picture = scene.resize((artwork.width, artwork.height), Image.Resampling.BICUBIC)
    _caption(picture, artwork)
    encoded = BytesIO()
    picture.save(encoded, artwork.format.upper(), **_SAVE_OPTIONS[artwork.format])
    return encoded.getvalue()


def image_size(encoded: str) -> tuple[int, int] | None:
    """
    Read width and height from a base64 image (with or without a ``data:`` prefix).

    :param encoded: A media field's value.
    :return: None for a URL, and for anything that is not an image.
    """
    from PIL import Image, UnidentifiedImageError

    if encoded.startswith(("http://", "https://")):
        return None
    payload = encoded.partition(",")[2] if encoded.startswith("data:") else encoded
    try:
        head = base64.b64decode(payload[:_HEADER_BASE64_CHARS])
        with Image.open(BytesIO(head)) as image:
            return image.size
    except (binascii.Error, ValueError, UnidentifiedImageError, OSError):
        return None


def _digest(artwork: Artwork) -> bytes:
    return hashlib.sha256(f"{artwork.seed}\n{artwork.prompt}".encode()).digest()


def _colour(hue: float, lightness: float, saturation: float = 0.6) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(hue % 1.0, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def _sky(hue: float, width: int, height: int) -> Image.Image:
    from PIL import Image

    corners = Image.new("RGB", (2, 3))
    for row, (shift, lightness) in enumerate(((0.0, 0.34), (0.09, 0.62), (0.17, 0.8))):
        for column in range(2):
            corners.putpixel((column, row), _colour(hue + shift + 0.04 * column, lightness))
    return corners.resize((width, height), Image.Resampling.BICUBIC)


def _sun(dice: random.Random, canvas: Image.Image, hue: float) -> None:
    """A disc in a halo, high enough to stand over the ridges."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(canvas, "RGBA")
    x, y = canvas.width * dice.uniform(0.15, 0.85), canvas.height * dice.uniform(0.15, 0.45)
    radius = min(canvas.size) * dice.uniform(0.06, 0.14)
    for ring in range(_HALO_RINGS, -1, -1):
        reach = radius * (1 + 0.35 * ring)
        opacity = 235 if ring == 0 else 26
        disc = (x - reach, y - reach, x + reach, y + reach)
        pen.ellipse(disc, fill=(*_colour(hue + 0.45, 0.86, 0.9), opacity))


def _ridges(dice: random.Random, canvas: Image.Image, hue: float) -> None:
    """Layered hills, each nearer, lower and darker than the last."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(canvas, "RGBA")
    for layer in range(_RIDGES):
        nearness = layer / (_RIDGES - 1)
        base = canvas.height * (0.5 + 0.36 * nearness)
        waves = [
            (
                canvas.height * dice.uniform(0.02, 0.1) / (n + 1),
                dice.uniform(1, 3) * (n + 1),
                dice.uniform(0, 6.3),
            )
            for n in range(3)
        ]
        line = [
            (x, base + sum(high * math.sin(turns * 6.3 * x / canvas.width + at) for high, turns, at in waves))
            for x in range(0, canvas.width + _RIDGE_STEP_PX, _RIDGE_STEP_PX)
        ]
        outline = [*line, (canvas.width, canvas.height), (0, canvas.height)]
        pen.polygon(outline, fill=_colour(hue + 0.1 * (1 - nearness), 0.5 - 0.38 * nearness, 0.42))


def _caption(picture: Image.Image, artwork: Artwork) -> None:
    """Write the first words of the prompt on a dark band, so that a person can tell results apart."""
    from PIL import ImageDraw, ImageFont

    words = " ".join(artwork.prompt.split()[:_CAPTION_WORDS])
    text = f"{words}  #{artwork.seed}" if words else f"#{artwork.seed}"
    size_px = max(10, min(picture.size) // 28)
    margin_px = size_px // 2
    band_top = picture.height - size_px - 2 * margin_px
    pen = ImageDraw.Draw(picture, "RGBA")
    pen.rectangle((0, band_top, picture.width, picture.height), fill=(0, 0, 0, 140))
    font = ImageFont.load_default(size_px)
    pen.text((margin_px, band_top + margin_px // 2), text, fill=(255, 255, 255, 230), font=font)
