# SPDX-License-Identifier: Apache-2.0
"""``bfl-simulator``: run the simulator until interrupted, and say how to connect Airflow to it."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec

from airflow_provider_bfl.simulator.simulator import Simulator


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    :param argv: Arguments without the program's name; None takes the process's own.
    :return: The exit code: 0 after SIGINT or SIGTERM, 1 when it could not start.
    """
    arguments = _parser().parse_args(argv)
    if find_spec("PIL") is None:
        print("The simulator draws with Pillow: pip install 'airflow-provider-bfl[simulator]'", file=sys.stderr)
        return 1
    simulator = Simulator(
        latency_scale=arguments.latency_scale,
        starting_credits=arguments.credits,
        port=arguments.port,
        seed=arguments.seed,
    )
    try:
        simulator.start()
    except OSError as error:
        print(f"The simulator could not start: {error}", file=sys.stderr)
        return 1
    stopping = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stopping.set())
    print(_as_json(simulator) if arguments.json else _as_text(simulator), flush=True)
    stopping.wait()
    simulator.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bfl-simulator",
        description="A local BFL API on 127.0.0.1. Nothing is billed, nothing leaves this machine.",
    )
    parser.add_argument("--port", type=int, default=0, help="first of nine consecutive ports (default: free ones)")
    parser.add_argument(
        "--latency-scale", type=float, default=1.0, help="factor on the models' typical times (default: 1)"
    )
    parser.add_argument("--credits", type=float, default=10_000.0, help="balance of every key (default: 10000)")
    parser.add_argument("--seed", type=int, help="make task ids, seeds and times repeat from run to run")
    parser.add_argument("--json", action="store_true", help="print one line of JSON with all addresses when ready")
    return parser


def _as_json(simulator: Simulator) -> str:
    return json.dumps({"addresses": simulator.addresses, "connection": simulator.connection()})


def _as_text(simulator: Simulator) -> str:
    rows = [f"  {name:<14} {url}" for name, url in simulator.addresses.items()]
    return "\n".join(
        [
            "BFL simulator is running on",
            *rows,
            "",
            "Connect Airflow to it with",
            f"  export AIRFLOW_CONN_BFL_DEFAULT={shlex.quote(simulator.connection_json())}",
            "",
            "Any key that begins with bfl_ is accepted. Ctrl+C stops it.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
