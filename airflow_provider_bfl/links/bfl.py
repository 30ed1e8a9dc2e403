# SPDX-License-Identifier: Apache-2.0
"""
The buttons on a task instance: where its result is stored, and BFL's dashboard.

Airflow 3 asks for a link in the worker, at the end of a task and when it defers; Airflow 2 asks in the webserver,
whenever somebody looks. So what a link needs is in XCom before a deferral, and nothing else is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

#: XCom key of the console's page about the stored object, or before it is stored about its place.
OBJECT_LINK_KEY = "bfl_object_link"

DASHBOARD_URL = "https://dashboard.bfl.ai"

_CONSOLES = (
    "https://console.aws.amazon.com/",
    "https://console.amazonaws.cn/",
    "https://console.amazonaws-us-gov.com/",
    "https://console.cloud.google.com/",
)


class BflStoredObjectLink(BaseOperatorLink):
    """The page of the S3 or Google Cloud console about the stored object; no button for other stores."""

    name = "Stored object"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the page, or an empty string where there is none. It is a page to log in to, never a signed URL."""
        # The operator that has just run knows; Airflow 3 logs an error for an XCom that is not there.
        link: Any = getattr(operator, "object_link", None)
        if link is None:
            from airflow.providers.common.compat.sdk import XCom

            link = XCom.get_value(ti_key=ti_key, key=OBJECT_LINK_KEY)
        # Whoever can write an XCom could put any address behind the button.
        return link if isinstance(link, str) and link.startswith(_CONSOLES) else ""


class BflDashboardLink(BaseOperatorLink):
    """BFL's dashboard, where a generation can be looked up by its id; it has no page for each that could be linked."""

    name = "BFL dashboard"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return its address."""
        return DASHBOARD_URL
