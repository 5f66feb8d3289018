"""What makes a local Spark driver start fast: its jars resolved once, and an archive of its loaded classes.

Resolving the packages again costs 3 s of every start, loading and verifying 20,000 classes about 10 CPU seconds of
the first half minute. Measured on two cores, session + a Delta write + a windowed stream, C1 only: 26 CPU s without
the kit, 17 with it. Only for plain python with a local master; spark-submit does its own resolving.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.conf_files import conf_text
from pipelines.errors import InfrastructureUnavailable
from pipelines.local import Say, quiet
from pipelines.local.cache import cache_dir, made_once
from pipelines.local.java import java_version, require_java
from pipelines.local.processes import run_logged, tail
from pipelines.local.spark_home import spark_home

FILES_WITHOUT_FORKS = {
    "spark.hadoop.fs.file.impl": "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem",
}
"""Hadoop's own local file system starts a `chmod` or a `readlink` for most files it touches: 19 processes a second with
three queries. This one asks Java. Its class must be on the class path from the start, so it is not for a
spark-submit that resolves the packages itself (docs/adr/0029)."""
FOLDER_CHECKPOINTS = {
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    ),
}
"""Lets checkpoints in a folder use that file system: Spark's default manager goes by another interface of Hadoop's,
`FileContext`, which has its own local file system. A checkpoint in a store keeps the default (docs/adr/0013)."""
_CLASSES = "classes.jsa"
_RESOLVE, _TRAIN = "resolve", "train"


@dataclass(frozen=True)
class SparkKit:
    """Folder of the jars, and of the class archive made over them."""

    jars: Path
    archive: Path
    empty: Path
    """An empty folder in the place of Spark's conf folder: Java archives no class path with files in a folder."""

    def conf(self) -> dict[str, str]:
        """Spark configuration that takes the place of `spark.jars.packages`."""
        return {
            "spark.jars.packages": "",
            "spark.jars.excludes": "",
            "spark.driver.extraClassPath": f"{self.jars}/*",
            **FILES_WITHOUT_FORKS,
        }

    def flags(self) -> str:
        """JVM flags of a fast start; Java ignores an archive that does not fit."""
        return f"-XX:SharedArchiveFile={self.archive} -Xshare:auto" if self.archive.is_file() else ""


def spark_kit(say: Say = quiet) -> SparkKit:
    """The kit of the packages in `conf/spark-defaults.conf`; the first call downloads 40 MB and takes a minute.

    Raises InfrastructureUnavailable when Java is missing or the jars cannot be downloaded.
    """
    root = _kit_folder()
    jars = made_once(root / "jars", lambda folder: _resolve(folder, say), say=say)
    made_once(root / "conf-empty", lambda folder: None)
    classes = made_once(root / "classes", lambda folder: _train(folder, jars, root, say), say=say)
    return SparkKit(jars, classes / _CLASSES, root / "conf-empty")


def spark_defaults() -> dict[str, str]:
    """The settings of `conf/spark-defaults.conf`."""
    lines = (line.strip() for line in conf_text("spark-defaults.conf").splitlines())
    pairs = (line.split(None, 1) for line in lines if line and not line.startswith("#"))
    return {pair[0]: pair[1].strip() for pair in pairs}


def _kit_folder() -> Path:
    defaults = spark_defaults()
    parts = [
        defaults["spark.jars.packages"],
        defaults["spark.jars.excludes"],
        str(spark_home()),
        str(cache_dir()),
    ]
    digest = hashlib.sha256("|".join(parts).encode()).hexdigest()[:12]
    return cache_dir() / "spark" / f"{digest}-java-{java_version(require_java())}"


def _resolve(folder: Path, say: Say) -> None:
    say("downloading Spark's connectors (40 MB, once)")
    _run(folder, _RESOLVE, {"GRIDWATCH_KIT": str(folder)}, say, required=True)


def _train(folder: Path, jars: Path, root: Path, say: Say) -> None:
    """Run a small job; Java writes the archive as it exits. Without one starts are slow, nothing else."""
    say("preparing Spark for fast starts (once)")
    kit = {"jars": str(jars), "archive": str(folder / _CLASSES), "empty": str(root / "conf-empty")}
    _run(folder, _TRAIN, {"GRIDWATCH_KIT": json.dumps(kit)}, say, required=False)


def _run(folder: Path, step: str, environment: Mapping[str, str], say: Say, *, required: bool) -> None:
    log = folder.with_name(f"{step}.log")
    command = [sys.executable, "-m", "pipelines.jobs.training", step]
    code = run_logged(command, log=log, on_line=lambda line: None, env={**os.environ, **environment})
    if code and required:
        raise InfrastructureUnavailable(
            f"Spark's connectors could not be downloaded: {tail(log, 1)}; is Maven Central, or the mirror in"
            f" DEFAULT_ARTIFACT_REPOSITORY, reachable? See {log}"
        )
    if code:
        say(f"Spark starts without a class archive, a little slower; see {log}")
    shutil.rmtree(folder / "trial", ignore_errors=True)
