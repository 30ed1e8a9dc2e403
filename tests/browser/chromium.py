# SPDX-License-Identifier: Apache-2.0
"""Find the system's Chromium and drive it; `python -m tests.browser.chromium` installs one where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_PACKAGES = ("chromium", "fonts-dejavu-core")
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: No sandbox: in containers it cannot be set up, and only this project's own pages are opened. The others keep the
#: browser from asking anything of the internet.
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> Path | None:
    """Return the executable that $CHROMIUM names, or the first on the PATH, or None."""
    if named := os.environ.get("CHROMIUM"):
        return Path(named) if Path(named).exists() else None
    found = filter(None, map(shutil.which, _NAMES))
    return next(map(Path, found), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a headless browser."""
    from playwright.sync_api import sync_playwright

    executable = find_chromium()
    if executable is None:
        message = "There is no Chromium; run python -m tests.browser.chromium"
        raise RuntimeError(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def can_install() -> bool:
    """Whether this is a Debian or Ubuntu, and whether its packages may be installed without asking anybody."""
    return shutil.which("apt-get") is not None and os.geteuid() == 0


def install(*, attempts: int = 4, pause_seconds: float = 15) -> bool:
    """
    Install Debian's Chromium; the answer is whether it is there now.

    :param attempts: How often to try: a mirror may be away, and another process may hold apt's lock.
    :param pause_seconds: Between two of them.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause_seconds)
        update = ["apt-get", *options, "update"]
        get = ["apt-get", *options, "install", "-y", "--no-install-recommends", *_PACKAGES]
        # A list that could not be fetched is not the end: the packages may be in those that could.
        subprocess.run(update, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        done = subprocess.run(get, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        if done.returncode == 0 and find_chromium() is not None:
            return True
    return False


def main() -> int:
    """Say where Chromium is; get it first where that can be done."""
    if find_chromium() is None and "CHROMIUM" not in os.environ and can_install():
        print("Installing Chromium with apt-get", flush=True)
        install()
    executable = find_chromium()
    if executable is not None:
        print(f"Driving {executable}")
        return 0
    print(
        "There is no Chromium on the PATH. Install one, for example on Debian and Ubuntu with\n"
        f"    apt-get install -y --no-install-recommends {' '.join(_PACKAGES)}\n"
        "or name an executable: CHROMIUM=/path/to/chrome make browser",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
