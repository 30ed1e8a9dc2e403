# SPDX-License-Identifier: Apache-2.0
"""What the provider adds to Airflow's web interface."""
