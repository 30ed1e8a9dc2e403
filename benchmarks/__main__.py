# SPDX-License-Identifier: Apache-2.0
"""Measure the rows and tell the results: ``python -m benchmarks [--tiny] [--runs N] [row …]``."""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from benchmarks import results

ROWS = (
    "import_time",
    "trigger_cpu",
    "trigger_polls",
    "trigger_block",
    "batch_slots",
    "batch_memory",
    "landing",
    "mapped_tasks",
)

#: What takes minutes even when it is tiny: a whole Airflow.
SLOW = frozenset({"mapped_tasks"})


def main(argv: list[str] | None = None) -> int:
    """
    Run the command line.

    :return: 0, also where a goal is missed: that is a finding, not an error. 1 when a row could not be measured.
    """
    options = _parser().parse_args(argv)
    rows = options.rows or [row for row in ROWS if not (options.tiny and row in SLOW)]
    found: dict[str, list[results.Finding]] = {}
    broken = []
    for row in rows:
        module, begun = importlib.import_module(f"benchmarks.{row}"), time.monotonic()
        print(f"\n{module.TITLE}", flush=True)
        try:
            found[row] = module.measure(tiny=options.tiny, runs=options.runs or (1 if options.tiny else 5))
        except (RuntimeError, OSError) as error:
            print(f"could not be measured: {error}", file=sys.stderr)
            broken.append(row)
            continue
        print(results.as_text(found[row]))
        print(f"({time.monotonic() - begun:.0f} s)", flush=True)
        if not options.tiny:
            results.write({row: found[row]})
            results.write_page({row: found[row]})
    missed = results.unreached(each for findings in found.values() for each in findings)
    if missed and not options.tiny:
        print("\nGoals missed:", *(each.what for each in missed), sep="\n  ")
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure this provider against its baselines.")
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="rows to measure (default: all)")
    parser.add_argument("--tiny", action="store_true", help="only see that every row runs; nothing is written")
    parser.add_argument("--runs", type=int, help="runs of each variant (default: 5)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
