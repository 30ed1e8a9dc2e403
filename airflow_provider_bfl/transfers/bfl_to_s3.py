# SPDX-License-Identifier: Apache-2.0
"""A generation's result into Amazon S3 and what speaks its protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_bfl.transfers.base import BflTransferOperator

if TYPE_CHECKING:
    from airflow_provider_bfl.landing import Target


class BflToS3Operator(BflTransferOperator):
    """
    Bring the result of a submitted generation into an S3 bucket, streamed and through Airflow's ``S3Hook``.

    What it promises and the further parameters are those of
    :class:`~airflow_provider_bfl.transfers.base.BflTransferOperator`. Needs the extra ``[amazon]``.

    :param s3_bucket: The bucket. Templated.
    :param s3_key: The object's key; ending in ``/`` it is a directory, and the name is made from Dag, run, task and
        generation id. Templated.
    :param aws_conn_id: The AWS connection. Default ``aws_default``. Templated.
    :param extra_args: boto3's upload arguments: encryption, storage class, tags, ACL and the like. The right
        ``ContentType`` is set unless given. Templated.
    :param metadata: Metadata kept on the object. Templated.
    """

    template_fields: Sequence[str] = (
        *BflTransferOperator.template_fields,
        "s3_bucket",
        "s3_key",
        "aws_conn_id",
        "extra_args",
        "metadata",
    )

    def __init__(
        self,
        *,
        s3_bucket: str,
        s3_key: str,
        aws_conn_id: str | None = "aws_default",
        extra_args: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.s3_bucket = s3_bucket
        self.s3_key = s3_key
        self.aws_conn_id = aws_conn_id
        self.extra_args = extra_args
        self.metadata = metadata

    def open_target(self) -> Target:
        """Return the place in the bucket."""
        from airflow_provider_bfl.landing import s3_target

        return s3_target(
            self.s3_bucket,
            self.s3_key,
            aws_conn_id=self.aws_conn_id,
            extra_args=self.extra_args,
            metadata=self.metadata,
        )
