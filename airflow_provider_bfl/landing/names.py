# SPDX-License-Identifier: Apache-2.0
"""
The name of a generation's object below a directory.

Dag, run and task ids and BFL's own id are data: they may hold anything, ``..`` and slashes too. A name is made of safe
characters only, is the same whenever the same generation is landed again, and never the same for two generations.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

_UNSAFE = re.compile(r"[^A-Za-z0-9._=-]")

#: A file name may have 255 bytes on common file systems; extension, sidecar and temporary names must fit too.
_MAX_PART_CHARS = 120

_DIGEST_CHARS = 10


def safe_part(text: str) -> str:
    """
    Return ``text`` as one path segment of safe characters.

    What had to be changed gets a digest of the original, so that two ids never share a segment.
    """
    safe = _UNSAFE.sub("_", text)
    if safe == text and not safe.startswith(".") and 0 < len(safe) <= _MAX_PART_CHARS:
        return safe
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    shown = safe.lstrip(".")[: _MAX_PART_CHARS - _DIGEST_CHARS - 1]
    return f"{shown}-{digest}" if shown else digest


def safe_path(text: str) -> str:
    """Return a relative path with each of its segments made safe; a name that a user's data gives."""
    return "/".join(safe_part(part) for part in text.split("/"))


def object_stem(task: Mapping[str, Any], generation_id: str) -> str:
    """
    Return ``<dag_id>/<run_id>/<task_id>[/<map_index>]/<generation id>``, without an extension.

    :param task: ``dag_id``, ``run_id``, ``task_id`` and ``map_index``; what is missing, or a map index below 0, is
        left out.
    """
    parts = [safe_part(str(task[name])) for name in ("dag_id", "run_id", "task_id") if task.get(name)]
    map_index = task.get("map_index")
    if isinstance(map_index, int) and map_index >= 0:
        parts.append(str(map_index))
    return "/".join([*parts, safe_part(generation_id)])
