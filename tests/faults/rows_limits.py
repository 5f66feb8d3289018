"""Rows 28 and 29: wrong credentials, a full disk, too little memory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pipelines.local.processes import wait_until
from tests.faults.bench import Bench
from tests.faults.expect import NotHeld, last_words, require
from tests.faults.matrix import Figures, row
from tests.integration.support import text_of

_TMPFS_MB = 24
_SMALL_HEAP = "-Xmx72m -Dspark.testing.reservedMemory=1"
"""Java takes it after what Spark asks for; Spark itself would refuse so small a heap, and so do the settings."""


@row(28, "wrong credentials, bad CA", "fails fast; no secret in any log")
def wrong_credentials(bench: Bench) -> Figures:
    """SASL_SSL at a broker of its own. Where else secrets could be: tests/integration/test_secure.py."""
    from tests.integration.secure import secure_broker

    figures: Figures = {}
    with secure_broker(bench.folder / "secure") as secure:
        scene = bench.main
        scene.stop()
        wrong = {"password": {"GRIDWATCH_KAFKA__SASL_PASSWORD": "canary-of-row-28"},
                 "user": {"GRIDWATCH_KAFKA__SASL_USERNAME": "nobody"},
                 "authority": {"GRIDWATCH_KAFKA__SSL_CAFILE": str(secure.foreign_ca)}}  # fmt: skip
        for name, change in wrong.items():
            environment = secure.environment("pipeline") | change
            scene.lives += 1
            child = scene.place.start(f"pipeline-{scene.lives}", *_run(), more=environment)
            code = scene.ended(child, 30)
            line = last_words(child)
            require(code in (2, 4), f"{name}: ended with {code}: {line}")
            require("Traceback" not in text_of(child.log), f"{name}: ends in a stack trace")
            secrets = [*environment_secrets(environment)]
            require(not any(secret in text_of(child.log) for secret in secrets), f"{name}: a secret is in the log")
            figures[name] = line
    return figures


def environment_secrets(environment: dict[str, str]) -> list[str]:
    """Values of the variables that hold a password."""
    return [value for name, value in environment.items() if name.endswith(("PASSWORD", "_KEY"))]


def _run() -> list[str]:
    import sys

    return [sys.executable, "-m", "pipelines", "run"]


@row(29, "disk full for checkpoints, driver out of memory", "stops; clean after restart")
def resources_end(bench: Bench) -> Figures:
    """The checkpoint on a small file system that is then filled; then a heap too small for the batches."""
    scene, figures = bench.main, {}
    scene.traffic.send_polls(10)
    scene.catch_up()
    scene.stop()
    figures["disk_full"] = _fill_the_disk(bench)
    scene.traffic.send_polls(200, per_second=1e9)
    child = scene.start(more={"_JAVA_OPTIONS": _SMALL_HEAP})
    ended = child.wait(240)
    code = child.kill()
    require(ended, f"neither works nor ends with a heap of {_SMALL_HEAP}: {last_words(child)}")
    require(code == 4, f"ended with {code} out of memory: {last_words(child)}")
    figures["out_of_memory"] = f"ended with {code}: {last_words(child)}"
    return figures | scene.settle(300)


def _fill_the_disk(bench: Bench) -> str:
    folder = bench.folder / "small-disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_TMPFS_MB}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        raise NotHeld("not tried: a file system of a fixed size can be mounted by root only")
    try:
        return _on_the_disk(bench, folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def _on_the_disk(bench: Bench, folder: Path) -> str:
    scene = bench.scene("small-disk", pipeline__checkpoint=folder / "checkpoint")
    scene.traffic.send_polls(10)
    scene.catch_up()
    child = scene.running()
    filler = folder / "filler"
    with filler.open("wb") as stream:
        try:
            while True:
                stream.write(b"\0" * 65536)
        except OSError:
            pass
    scene.traffic.send_polls(20)
    ended = wait_until(lambda: not child.is_running(), 120)
    code = child.kill()
    require(ended, f"works on without a disk: {last_words(child)}")
    line = last_words(child)
    require(code == 4, f"ended with {code} instead of 4: {line}")
    filler.unlink()
    scene.settle(300)
    scene.close()
    return f"ended with {code}: {line}"
