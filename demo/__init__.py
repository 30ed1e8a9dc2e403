# SPDX-License-Identifier: Apache-2.0
"""A real Airflow on this machine, for `make demo` and for the live tests."""
