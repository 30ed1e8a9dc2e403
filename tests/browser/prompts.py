# SPDX-License-Identifier: Apache-2.0
"""What the Dags ask for."""

from __future__ import annotations

#: Model, prompt, and width and height.
SHOTS = (
    ("flux-2-pro", "A ceramic teapot on a windowsill, morning light", (1024, 1024)),
    ("flux-2-pro", "The same teapot in a dark kitchen, one candle", (1024, 1024)),
    ("flux-2-max", "A hiking boot on wet basalt, studio strobe", (1440, 960)),
    ("flux-2-klein-4b", "Folded linen shirts, overhead, soft shadows", (960, 1280)),
    ("flux-2-klein-9b", "A brass desk lamp against a plaster wall", (960, 1280)),
    ("flux-2-flex", 'A poster that says "Harbour Market, Saturday"', (1024, 1440)),
    ("flux-pro-1.1", "A bicycle leaning on a blue garage door", (1440, 960)),
    ("flux-pro-1.1", "Three jars of honey, back-lit", (1024, 1024)),
    ("flux-2-klein-4b", "A wool blanket over an oak bench", (1280, 960)),
    ("flux-2-pro", "A glass of iced tea with condensation", (960, 1280)),
    ("flux-dev", "A paper boat on a reflecting pool", (1024, 1024)),
)

#: What the batch makes.
CATALOGUE = (
    "A ceramic mug",
    "A leather wallet",
    "A steel thermos",
    "A wicker basket",
    "A pair of sandals",
    "A folding knife",
    "A canvas tote bag",
    "A walnut bowl",
    "A brass candle holder",
    "A wool beanie",
    "A glass carafe",
    "A linen apron",
    "A cast-iron pan",
    "A rattan chair",
)
