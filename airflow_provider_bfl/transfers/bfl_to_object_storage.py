# SPDX-License-Identifier: Apache-2.0
"""A generation's result into any storage Airflow knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_bfl.transfers.base import BflTransferOperator

if TYPE_CHECKING:
    from airflow_provider_bfl.landing import Target


class BflToObjectStorageOperator(BflTransferOperator):
    """
    Bring the result of a submitted generation to an object-storage URI: S3, GCS, Azure, a local file and more.

    What it promises and the further parameters are those of
    :class:`~airflow_provider_bfl.transfers.base.BflTransferOperator`. ``s3://`` and ``gs://`` go through Airflow's
    hooks, every other scheme through its ``ObjectStoragePath``.

    :param destination: A full URI, or a directory ending in ``/`` below which the name is made from Dag, run, task and
        generation id. Templated.
    :param storage_conn_id: The storage's Airflow connection; None for the scheme's default. Templated.
    """

    template_fields: Sequence[str] = (*BflTransferOperator.template_fields, "destination", "storage_conn_id")

    def __init__(self, *, destination: str, storage_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.storage_conn_id = storage_conn_id

    def open_target(self) -> Target:
        """Return the place the URI names."""
        from airflow_provider_bfl.landing import open_target

        return open_target(self.destination, storage_conn_id=self.storage_conn_id)
