# SPDX-License-Identifier: Apache-2.0
"""What a task gives the gallery: one XCom of its own, which no task needs and none fails for."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_bfl.landing.preview import PREVIEW_KEY, generation_preview

if TYPE_CHECKING:
    from airflow_provider_bfl.landing.facts import Generation

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Previews:
    """
    The preview of one task instance.

    :param ti: The task instance.
    :param wanted: The operator's ``do_xcom_push``.
    """

    ti: Any
    wanted: bool

    @property
    def record_prompt(self) -> bool:
        """Whether the preview, like the sidecar, has the prompt."""
        from airflow.providers.common.compat.sdk import conf

        return bool(conf.getboolean("bfl", "record_prompts", fallback=True))

    def push(self, generation: Generation, **facts: Any) -> None:
        """Push the preview of a generation; see :func:`~airflow_provider_bfl.landing.preview.generation_preview`."""
        self.push_value(generation_preview(generation, record_prompt=self.record_prompt, **facts))

    def push_value(self, preview: dict[str, Any]) -> None:
        """Push a preview where there is a gallery to show it."""
        if not self.wanted or not _has_gallery():
            return
        try:
            self.ti.xcom_push(key=PREVIEW_KEY, value=preview)
        except Exception as error:  # noqa: BLE001 - whatever a backend raises; the result is stored and counts
            log.warning("The preview could not be stored (%s); the gallery does not show it.", type(error).__name__)


def _has_gallery() -> bool:
    # Before Airflow 3.1 the thumbnails would fill the metadata database for nobody to see.
    from airflow.plugins_manager import AirflowPlugin

    return hasattr(AirflowPlugin, "react_apps")
