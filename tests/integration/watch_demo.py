"""`python -m tests.integration.watch_demo`: a demo with its console open in a real Chromium, all the while.

Takes a picture of each view amid the traffic and after it, and times every finding from the broker's append to the page
that is drawn with it. Exit code: 0 when the demo is ok, the page raised no complaint and its p99 is within the limit.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import InfrastructureUnavailable
from tests.integration.browsing import Browser, browser

LIMIT_MS = 250
_PAGE = re.compile(r"the console is at (\S+)")
_SENDING, _HELD = "sending traffic", "all of it stays until Ctrl-C"
_START_LIMIT_S, _END_LIMIT_S = 300, 600


class Demo:
    """`gridwatch demo --hold` as a child; what it says is handed on and remembered."""

    def __init__(self, seconds: int, seed: int, report: Path) -> None:
        words = ["demo", "--seconds", str(seconds), "--seed", str(seed), "--report", str(report), "--hold"]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "pipelines", *words], stderr=subprocess.PIPE, text=True, errors="replace"
        )
        self.started = time.monotonic()
        self._said: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._child.stderr is not None
        for line in self._child.stderr:
            self._said.append(line)
            sys.stderr.write(line)

    def said(self, pattern: str | re.Pattern[str]) -> re.Match[str] | None:
        """The first line that fits."""
        return next(filter(None, (re.search(pattern, line) for line in [*self._said])), None)

    def wait_for(self, pattern: str | re.Pattern[str], limit_s: float) -> re.Match[str]:
        """Wait until a line fits; raises InfrastructureUnavailable when the demo ends before, or the time is over."""
        deadline = time.monotonic() + limit_s
        while not (found := self.said(pattern)):
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise InfrastructureUnavailable(f"the demo did not say {pattern!r}; its code: {self._child.poll()}")
            time.sleep(0.2)
        return found

    def end(self) -> None:
        """Ctrl-C, and wait until all it started is gone."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGINT)
        self._child.wait(120)


@contextmanager
def running(seconds: int, seed: int, report: Path) -> Iterator[Demo]:
    """A demo that is ended at the end."""
    demo = Demo(seconds, seed, report)
    try:
        yield demo
    finally:
        demo.end()


def main(argv: Sequence[str] | None = None) -> int:
    """Print the page's figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.watch_demo", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="wall seconds of traffic (120)")
    parser.add_argument("--seed", type=int, default=7, help="seed of grid and faults (7)")
    parser.add_argument("--shots", type=Path, help="folder for the pictures")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` makes us, and so the demo, deaf to it
    if args.shots:
        args.shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        with running(args.seconds, args.seed, report) as demo, browser() as page:
            address = demo.wait_for(_PAGE, _START_LIMIT_S)[1]
            page.open(*address.split("#", 1))
            demo.wait_for(_SENDING, _START_LIMIT_S)
            began = time.monotonic()
            page.wait_for(lambda: page.script("return window.gridwatch.state.incidents.size"), "an incident", 120)
            first_incident_s = round(time.monotonic() - demo.started, 1)
            time.sleep(max(0.0, began + args.seconds * 0.6 - time.monotonic()))
            _look(page, args.shots, "amid")
            figures = {"amid": _figures(page)}
            demo.wait_for(_HELD, args.seconds + _END_LIMIT_S)
            _look(page, args.shots, "after")
            figures["after"] = _figures(page)
            complaints = page.complaints()
        is_ok = bool(json.loads(report.read_text(encoding="utf-8"))["ok"])
    told = {
        "seed": args.seed, "seconds": args.seconds, "demo_ok": is_ok, "first_incident_s": first_incident_s,
        "page": figures, "complaints": complaints,
    }  # fmt: skip
    print(json.dumps(told, indent=1))
    is_quick = all(found["p99_ms"] <= LIMIT_MS for found in figures.values())
    return int(not (is_ok and is_quick and not complaints))


def _look(page: Browser, shots: Path | None, moment: str) -> None:
    """Go through the views without loading the page anew, so that the times of all findings are kept."""
    _turn_to(page, "incidents")
    meter = page.script(
        "return [...window.gridwatch.state.incidents.values()].findLast((one) => one.meterId !== null)?.meterId"
    )
    views = ["incidents", "feeders", *([f"meter/{meter}"] if meter else []), "pipeline"]
    for view in views:
        _turn_to(page, view)
        if shots:
            page.driver.save_screenshot(str(shots / f"{moment}-{view.partition('/')[0]}.png"))


def _turn_to(page: Browser, view: str) -> None:
    page.script("location.hash = arguments[0]", f"#/{view}")
    page.wait_for(lambda: "reading the tables" not in page.text("main"), f"{view} is filled", 60)
    time.sleep(1)


def _figures(page: Browser) -> dict[str, Any]:
    """Of the newest findings: the page keeps the times of some thousands."""
    delays = sorted(page.script("return window.gridwatch.delays"))
    at = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
    shown = {"findings": page.script("return window.gridwatch.state.arrived"), "timed": len(delays)}
    return shown | {name: delays[round(share * (len(delays) - 1))] for name, share in at.items()}


if __name__ == "__main__":
    sys.exit(main())
