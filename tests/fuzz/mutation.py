# SPDX-License-Identifier: Apache-2.0
"""Changes to a JSON document that leave it one: most changes to its bytes would only test the JSON parser."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from tests.fuzz.seeds import NASTY, WORDS


def mutate_json(data: bytes, *, head_lines: int, chance: random.Random) -> bytes | None:
    """
    Return ``data`` with one to three values of its document replaced, removed or added; None where it has none.

    :param head_lines: How many lines stand before the document.
    """
    *head, text = data.split(b"\n", head_lines)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    holder = {"": document}
    try:
        for _ in range(chance.randint(1, 3)):
            _change(holder, chance)
        return b"\n".join([*head, json.dumps(holder.get("")).encode()])
    except (ValueError, RecursionError):
        return None


def _change(holder: dict[str, Any], chance: random.Random) -> None:
    container, name = chance.choice(_places(holder))
    action = chance.random()
    if action < 0.7:
        container[name] = copy.deepcopy(chance.choice(NASTY))
    elif action < 0.8 and container is not holder:
        del container[name]
    elif isinstance(container, dict) and container is not holder:
        container[chance.choice(WORDS)] = copy.deepcopy(container[name])


def _places(container: Any) -> list[tuple[Any, Any]]:
    names = list(container) if isinstance(container, dict) else range(len(container))
    found = [(container, name) for name in names]
    for name in names:
        if isinstance(container[name], dict | list) and container[name]:
            found += _places(container[name])
    return found
