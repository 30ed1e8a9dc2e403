# SPDX-License-Identifier: Apache-2.0
"""Airflow as large installations run it, with Celery, Redis and PostgreSQL, and what must add up at the end."""
