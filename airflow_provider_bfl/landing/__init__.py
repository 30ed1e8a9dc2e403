# SPDX-License-Identifier: Apache-2.0
"""A generation's result becomes an object in the user's own storage."""

from __future__ import annotations

from airflow_provider_bfl.landing.facts import Generation, Landed
from airflow_provider_bfl.landing.land import IfExists, find_landed, land
from airflow_provider_bfl.landing.target import Target, gcs_target, open_target, s3_target

__all__ = [
    "Generation",
    "IfExists",
    "Landed",
    "Target",
    "find_landed",
    "gcs_target",
    "land",
    "open_target",
    "s3_target",
]
