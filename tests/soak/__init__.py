# SPDX-License-Identifier: Apache-2.0
"""A long run of everything at once in one Airflow while things break at random; at its end the books must balance."""
