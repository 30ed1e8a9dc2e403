# SPDX-License-Identifier: Apache-2.0
"""
A tiny MP4, assembled by hand: one drawn picture shown as a still for the length of the clip.

The track is photo-JPEG, the one video codec that needs no encoder, so common players and probes accept the file.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from airflow_provider_bfl.simulator.images import draw
from airflow_provider_bfl.simulator.tasks import Artwork

_TIMESCALE = 1000
_IDENTITY_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)

#: A frame this much smaller than the nominal resolution keeps the clip at a few kilobytes.
_SHRINK = 4


def clip(artwork: Artwork, *, seconds: float) -> bytes:
    """
    Build a clip.

    :param artwork: What its one frame shows; the frame is a quarter of the nominal width and height.
    :param seconds: Length of the clip.
    """
    frame = replace(
        artwork,
        format="jpeg",
        width=max(16, artwork.width // _SHRINK),
        height=max(16, artwork.height // _SHRINK),
    )
    sample = draw(frame)
    file_type = _box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso2mp41")
    duration = round(seconds * _TIMESCALE)
    header_bytes = len(file_type) + len(_movie(frame, duration, len(sample), 0)) + 8
    return file_type + _movie(frame, duration, len(sample), header_bytes) + _box(b"mdat", sample)


def _box(kind: bytes, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return struct.pack(">I", len(payload) + 8) + kind + payload


def _movie(frame: Artwork, duration: int, sample_bytes: int, sample_offset: int) -> bytes:
    movie_header = _box(
        b"mvhd",
        struct.pack(">5I", 0, 0, 0, _TIMESCALE, duration),
        struct.pack(">IHH8x", 0x10000, 0x100, 0),
        _IDENTITY_MATRIX,
        struct.pack(">24xI", 2),
    )
    track_header = _box(
        b"tkhd",
        struct.pack(">6I", 7, 0, 0, 1, 0, duration),
        struct.pack(">8x4H", 0, 0, 0, 0),
        _IDENTITY_MATRIX,
        struct.pack(">II", frame.width << 16, frame.height << 16),
    )
    media = _box(
        b"mdia",
        _box(b"mdhd", struct.pack(">5IHH", 0, 0, 0, _TIMESCALE, duration, 0x55C4, 0)),
        _box(b"hdlr", struct.pack(">II4s12x", 0, 0, b"vide"), b"VideoHandler\0"),
        _box(
            b"minf",
            _box(b"vmhd", struct.pack(">I8x", 1)),
            _box(b"dinf", _box(b"dref", struct.pack(">II", 0, 1), _box(b"url ", struct.pack(">I", 1)))),
            _samples(frame, duration, sample_bytes, sample_offset),
        ),
    )
    return _box(b"moov", movie_header, _box(b"trak", track_header, media))


def _samples(frame: Artwork, duration: int, sample_bytes: int, sample_offset: int) -> bytes:
    description = _box(
        b"jpeg",
        struct.pack(">6xH16x", 1),
        struct.pack(">HHII4xH", frame.width, frame.height, 0x480000, 0x480000, 1),
        struct.pack(">32xHh", 24, -1),
    )
    return _box(
        b"stbl",
        _box(b"stsd", struct.pack(">II", 0, 1), description),
        _box(b"stts", struct.pack(">4I", 0, 1, 1, duration)),
        _box(b"stsc", struct.pack(">5I", 0, 1, 1, 1, 1)),
        _box(b"stsz", struct.pack(">4I", 0, 0, 1, sample_bytes)),
        _box(b"stco", struct.pack(">3I", 0, 1, sample_offset)),
    )
