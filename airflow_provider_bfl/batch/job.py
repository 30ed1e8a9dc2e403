# SPDX-License-Identifier: Apache-2.0
"""What a batch needs to be told, and what it asks others to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from airflow_provider_bfl.arguments import IfExists, OnAmbiguousSubmit
from airflow_provider_bfl.batch.rows import Owner
from airflow_provider_bfl.batch.table import Task
from airflow_provider_bfl.landing import Landed, Target


@dataclass(frozen=True)
class Job:
    """
    The arguments of one attempt.

    :param owner: The task instance.
    :param attempt: Its number among the attempts on this manifest.
    :param target: Where results go, a directory.
    :param region: Of the connection.
    :param max_active: The most generations in flight, of all models together.
    :param timeout: Seconds to wait for one generation.
    :param poll_interval: Fixed seconds between its polls, or None to learn.
    :param max_queue_wait: Seconds the account may stay full before the batch gives up.
    :param record_prompt: Whether sidecars have the prompt.
    :param facts: What a sidecar says of the task instance.
    """

    owner: Owner
    attempt: int
    target: Target
    region: str
    max_active: int
    if_exists: IfExists
    on_ambiguous_submit: OnAmbiguousSubmit
    timeout: float
    poll_interval: float | None
    max_queue_wait: float
    record_prompt: bool
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Calls:
    """
    What the engine does not do itself. All of it runs in threads, several at once.

    :param resolve: Reads an item's media and returns what is sent.
    :param output_format: Returns the format BFL will deliver of an item, or None.
    :param look: Given each landed result and its bytes.
    """

    resolve: Callable[[Task], Mapping[str, Any]]
    output_format: Callable[[Task], str | None]
    look: Callable[[Task, Landed, BinaryIO], None]
