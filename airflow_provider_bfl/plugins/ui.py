# SPDX-License-Identifier: Apache-2.0
"""
The gallery and the task panel (Airflow 3.1 and later).

The plugin serves the files beside it and nothing else. What they show they ask of Airflow's own REST API with the
browser's session, so Airflow's permissions are the permissions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin

STATIC = Path(__file__).parent / "static"
URL_PREFIX = "/bfl"

#: Airflow shows these names (the navigation has room for seven letters), and finds the components by them:
#: static/index.js registers the same.
GALLERY = "BFL"
PANEL = "BFL Generation"


def bundle_version() -> str:
    """Return a digest of the files: a part of their address, so that no browser mixes two releases."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def build_fastapi_apps() -> list[dict[str, Any]]:
    """Return the one application: static files. None where there is no FastAPI, before Airflow 3."""
    try:
        from fastapi import FastAPI
        from fastapi.staticfiles import StaticFiles
    except ImportError:
        return []
    app = FastAPI(title="airflow-provider-bfl", openapi_url=None, docs_url=None, redoc_url=None)
    app.mount(f"/{bundle_version()}", StaticFiles(directory=STATIC))
    return [{"app": app, "url_prefix": URL_PREFIX, "name": "bfl"}]


def build_react_apps() -> list[dict[str, Any]]:
    """
    Return the gallery, and the panel where ``[bfl] task_panel`` asks for it.

    Airflow shows the tab of a plugin on every task instance there is, whatever its operator.
    """
    from airflow.configuration import conf

    # Airflow may be served below a path, and only its 3.3 resolves an address against that path.
    below = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    address = f"{below}{URL_PREFIX}/{bundle_version()}"
    bundle = {
        "bundle_url": f"{address}/index.js",
        "icon": f"{address}/icon.svg",
        "icon_dark_mode": f"{address}/icon-dark.svg",
    }
    apps = [{**bundle, "name": GALLERY, "url_route": "bfl-gallery", "destination": "nav"}]
    if conf.getboolean("bfl", "task_panel", fallback=False):
        apps.append({**bundle, "name": PANEL, "url_route": "bfl", "destination": "task_instance"})
    return apps


class BflPlugin(AirflowPlugin):  # type: ignore[misc, unused-ignore]
    """What the ``airflow.plugins`` entry point names."""

    name = "bfl"
    fastapi_apps = build_fastapi_apps()
    react_apps = build_react_apps()
