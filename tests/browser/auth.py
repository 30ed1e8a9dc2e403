# SPDX-License-Identifier: Apache-2.0
"""Airflow's SimpleAuthManager with one rule more: a user who may not read one Dag. It knows roles, but no Dags."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

GUEST = "guest"
HIDDEN_DAG = "secret_campaign"


class OneDagDenied(SimpleAuthManager):
    """The guest may not read one Dag, nor anything below it."""

    def is_authorized_dag(self, *, user: Any, details: Any = None, **asked: Any) -> bool:
        """Answer what Airflow's API asks before every answer about a Dag."""
        if user.get_name() == GUEST and details is not None and details.id == HIDDEN_DAG:
            return False
        return super().is_authorized_dag(user=user, details=details, **asked)
