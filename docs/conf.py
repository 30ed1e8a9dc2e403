# SPDX-License-Identifier: Apache-2.0
"""The docs site: ``make docs``. Nothing is fetched while it is built, and a warning is an error."""

from __future__ import annotations

import os
from pathlib import Path

# The reference imports Airflow, which writes its configuration into its home.
os.environ["AIRFLOW_HOME"] = str(Path(__file__).parents[1] / "build" / "docs-airflow")

from airflow_provider_bfl import __version__

project = "airflow-provider-bfl"
author = "The airflow-provider-bfl authors"
project_copyright = "The airflow-provider-bfl authors, Apache License 2.0"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".rst": "restructuredtext"}
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "mixed"

# What docstrings name and this site does not show: Airflow's own, and rooms that nobody outside imports.
nitpick_ignore_regex = [
    (r"py:.*", r"airflow\..*"),
    (r"py:.*", r"airflow_provider_bfl\.(api|durable|landing|transport)\..*"),
]

html_theme = "furo"
html_title = f"airflow-provider-bfl {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
