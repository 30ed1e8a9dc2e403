# SPDX-License-Identifier: Apache-2.0
"""
The numbers this provider promises, each against a baseline measured in the same run.

``python -m benchmarks`` measures every row and writes ``results.json`` and the tables of ``docs/performance.rst``.
A row is a module with ``TITLE`` and ``measure``; what it measures runs in processes of its own, beside servers that
are processes too, and the variants of a comparison take turns, so that a busy machine slows all of them alike.
"""
