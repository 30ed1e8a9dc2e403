# SPDX-License-Identifier: Apache-2.0
"""
Fuzz every target for a while: ``python -m tests.fuzz [--seconds 60] [--target NAME]``.

Needs atheris (``requirements/fuzz.txt``), which ``make fuzz`` puts beside the project's environment. An input that
breaks a target is kept in ``.fuzz/<target>/`` and tried first the next time.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import tempfile
from pathlib import Path

import atheris

# Set before Airflow is imported, so that no Airflow of the person who runs this is read or made.
_HOME = tempfile.TemporaryDirectory(prefix="fuzz-airflow-")
os.environ["AIRFLOW_HOME"] = _HOME.name

with atheris.instrument_imports(include=["airflow_provider_bfl"]):
    from tests.fuzz.mutation import mutate_json
    from tests.fuzz.seeds import WORDS, seeds
    from tests.fuzz.targets import HEAD_LINES, TARGETS

KEPT = Path(".fuzz")
MAX_INPUT_BYTES = 8192
JSON_SHARE = 0.5
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


def fuzz(name: str, *, seconds: int) -> tuple[int, bool]:
    """Return how many inputs a target took, and whether all of them were right."""
    kept = KEPT / name
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        words, output, corpus = (Path(scratch, each) for each in ("words", "output", "corpus"))
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS))
        corpus.mkdir()
        for number, seed in enumerate(seeds()[name]):
            (corpus / f"seed-{number}").write_bytes(seed)
        flags = [
            f"-max_total_time={seconds}",
            f"-max_len={MAX_INPUT_BYTES}",
            "-timeout=10",
            "-print_final_stats=1",
            f"-artifact_prefix={kept}/",
            f"-dict={words}",
        ]
        # libFuzzer ends the process it runs in.
        child = os.fork()
        if child == 0:
            _hand_over(name, [*flags, str(corpus), str(kept)], output)
        _, status = os.waitpid(child, 0)
        told = output.read_text(errors="replace")
    counts = [int(count) for count in _EXECUTED.findall(told)]
    sound = status == 0 and bool(counts)
    if not sound:
        sys.stderr.write(told[-10_000:])
    return max(counts, default=0), sound


def _hand_over(name: str, arguments: list[str], output: Path) -> None:
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if name in HEAD_LINES and chance.random() < JSON_SHARE:
            changed = mutate_json(data, head_lines=HEAD_LINES[name], chance=chance)
            if changed is not None and len(changed) <= max_size:
                return changed
        mutated: bytes = atheris.Mutate(data, max_size)
        return mutated

    try:
        atheris.Setup([sys.argv[0], *arguments], TARGETS[name], custom_mutator=mutate)
        atheris.Fuzz()
    finally:
        os._exit(1)


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


def main() -> int:
    """Run all targets, or one; return 1 if one of them broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the readers of foreign data.")
    parser.add_argument("--seconds", type=int, default=60, help="in all, shared by the targets (default 60)")
    parser.add_argument("--target", choices=sorted(TARGETS), help="only this one")
    options = parser.parse_args()
    names = [options.target] if options.target else list(TARGETS)
    total, crashes = 0, 0
    for name in names:
        executed, sound = fuzz(name, seconds=max(1, options.seconds // len(names)))
        total += executed
        crashes += not sound
        print(f"{name:12} {executed:9} inputs  {'ok' if sound else f'BROKEN, see {KEPT / name}'}", flush=True)
    print(f"{total} inputs, {crashes} crashes")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
