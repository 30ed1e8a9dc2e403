# SPDX-License-Identifier: Apache-2.0
"""What a person sees, looked at with a real browser on a real Airflow."""
