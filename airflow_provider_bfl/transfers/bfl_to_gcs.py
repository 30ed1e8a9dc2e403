# SPDX-License-Identifier: Apache-2.0
"""A generation's result into Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_bfl.transfers.base import BflTransferOperator

if TYPE_CHECKING:
    from airflow_provider_bfl.landing import Target


class BflToGCSOperator(BflTransferOperator):
    """
    Bring the result of a submitted generation into a GCS bucket, streamed and through Airflow's ``GCSHook``.

    What it promises and the further parameters are those of
    :class:`~airflow_provider_bfl.transfers.base.BflTransferOperator`. Needs the extra ``[google]``.

    :param bucket_name: The bucket. Templated.
    :param object_name: The object's name; ending in ``/`` it is a directory, and the name is made from Dag, run, task
        and generation id. Templated.
    :param gcp_conn_id: The Google Cloud connection. Default ``google_cloud_default``. Templated.
    :param metadata: Metadata kept on the object. Templated.
    :param cache_control: The object's ``Cache-Control``; None leaves GCS's default. Templated.
    """

    template_fields: Sequence[str] = (
        *BflTransferOperator.template_fields,
        "bucket_name",
        "object_name",
        "gcp_conn_id",
        "metadata",
        "cache_control",
    )

    def __init__(
        self,
        *,
        bucket_name: str,
        object_name: str,
        gcp_conn_id: str = "google_cloud_default",
        metadata: Mapping[str, str] | None = None,
        cache_control: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_name = bucket_name
        self.object_name = object_name
        self.gcp_conn_id = gcp_conn_id
        self.metadata = metadata
        self.cache_control = cache_control

    def open_target(self) -> Target:
        """Return the place in the bucket."""
        from airflow_provider_bfl.landing import gcs_target

        return gcs_target(
            self.bucket_name,
            self.object_name,
            gcp_conn_id=self.gcp_conn_id,
            cache_control=self.cache_control,
            metadata=self.metadata,
        )
