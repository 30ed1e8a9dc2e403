# SPDX-License-Identifier: Apache-2.0
"""What Airflow reads about this provider."""

from __future__ import annotations

from typing import Any

from airflow_provider_bfl import __version__, connection_form


def get_provider_info() -> dict[str, Any]:
    """Return the provider metadata that Airflow discovers through the ``apache_airflow_provider`` entry point."""
    return {
        "package-name": "airflow-provider-bfl",
        "name": "Black Forest Labs",
        "description": "FLUX image and video generation by Black Forest Labs.",
        "versions": [__version__],
        "connection-types": [
            {
                "connection-type": connection_form.CONN_TYPE,
                "hook-class-name": "airflow_provider_bfl.hooks.bfl.BflHook",
                "hook-name": connection_form.HOOK_NAME,
                "conn-fields": connection_form.build_conn_fields(),
                "ui-field-behaviour": connection_form.build_metadata_field_behaviour(),
            }
        ],
        "extra-links": [
            "airflow_provider_bfl.links.bfl.BflStoredObjectLink",
            "airflow_provider_bfl.links.bfl.BflDashboardLink",
        ],
        "task-decorators": [{"name": "bfl", "class-name": "airflow_provider_bfl.decorators.bfl.bfl_task"}],
        "config": {"bfl": {"description": "Black Forest Labs provider.", "options": _options()}},
    }


def _options() -> dict[str, dict[str, Any]]:
    return {
        "journal_path": _option(
            "Object-storage URI under which the record of each submit is kept, so that a retry re-attaches instead of "
            "paying again. Needed on Airflow before 3.3; later versions keep it in the task state store, and move what "
            "is here to it.",
            example="s3://aws_default@my-bucket/airflow/bfl-journal",
        ),
        "record_prompts": _option(
            "Whether the sidecar beside a stored result contains the prompt.", kind="boolean", default="True"
        ),
        "log_prompts": _option(
            "Whether the task log contains the prompt. Otherwise it contains its length and hash.",
            kind="boolean",
            default="False",
        ),
        "task_panel": _option(
            "Whether the page of a task instance has a tab with its generation (Airflow 3.1 and later). Airflow shows "
            "the tab on the task instances of all operators. The gallery in the navigation shows the same without it.",
            kind="boolean",
            default="False",
        ),
        "allow_local_files": _option(
            "A directory below which file:// inputs may be read and sent to BFL. Empty: none may.",
            example="/opt/airflow/inputs",
        ),
    }


def _option(
    description: str, *, kind: str = "string", default: str | None = None, example: str | None = None
) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": example,
        "default": default,
    }
