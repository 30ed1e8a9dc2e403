# SPDX-License-Identifier: Apache-2.0
"""
Looks the locked requirements up in the advisory database that `pip-audit` asks.

Fails on a known vulnerability. Where no such service can be reached nothing is known, which is said and is no failure:
a build must not depend on it.
"""

from __future__ import annotations

import json
import subprocess
import sys

PIP_AUDIT = ".tools/security/bin/pip-audit"


def main(requirements: str) -> int:
    """Print what is known about the requirements; return 1 if something is."""
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "10", "--format", "json"]
    audit = subprocess.run([PIP_AUDIT, *options, "-r", requirements], capture_output=True, text=True, check=False)
    try:
        answers = json.loads(audit.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = audit.stderr.strip().splitlines() or ["no message"]
        print(f"NOT AUDITED: the advisory service could not be asked about {requirements}: {lines[-1]}")
        return 0
    unknown = sum("skip_reason" in each for each in answers)
    if unknown == len(answers):
        print(f"NOT AUDITED: the advisory service knows none of the {unknown} packages of {requirements}")
        return 0
    known = [(each, found) for each in answers for found in each.get("vulns", ())]
    for each, found in known:
        print(f"{each['name']} {each['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'none'}")
    print(f"{requirements}: {len(answers)} packages, {unknown} not known to the service, {len(known)} vulnerabilities")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(max(main(each) for each in sys.argv[1:]))
