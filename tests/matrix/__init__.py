# SPDX-License-Identifier: Apache-2.0
"""The provider as it is installed by users, on every Airflow it supports: run by `make matrix`."""
