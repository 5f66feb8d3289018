"""Who publishes the anomalies of readings, and that a change of it loses none.

Each change is one file beside the checkpoints, `alerts-mode/<number>.json`, written by the pipeline before its queries
start and never changed. The alerts job keeps its checkpoint under the number of the change that gave it the work.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipelines.jobs.alerts_offsets import Offsets, committed_offsets, published_by_archive
from pipelines.jobs.archive import judge, place
from pipelines.jobs.context import Run, checkpoint_path, hadoop_file, read_text, write_text
from pipelines.jobs.generation_start import is_at_or_behind
from pipelines.settings import MICROBATCH, REALTIME, Settings
from pipelines.sinks import send
from pipelines.transforms.anomalies import encode_anomalies
from pipelines.transforms.reading_rules import reading_anomalies


@dataclass(frozen=True)
class Change:
    """One change of `alerts.mode`. `published`: with realtime, the offsets up to which all is published already."""

    number: int = 0
    mode: str = MICROBATCH
    published: dict[int, int] = field(default_factory=dict)


def alerts_checkpoint(settings: Settings, change: Change) -> str:
    """Checkpoint folder of the alerts job since a change to realtime."""
    return checkpoint_path(settings, f"alerts-{change.number}")


def latest_change(spark: SparkSession, settings: Settings) -> Change:
    """The latest change; number 0, microbatch, when there was none."""
    number = 0
    while _exists(spark, _path(settings, number + 1)):
        number += 1
    if not number:
        return Change()
    said = json.loads(read_text(spark, *hadoop_file(spark, _path(settings, number))))
    return Change(number, said["mode"], {int(p): offset for p, offset in said["published"].items()})


def settle_mode(run: Run) -> None:
    """Carry out a change of `alerts.mode`, before the pipeline's queries start.

    To realtime: note up to where the archive has published; the alerts job begins there. To microbatch: judge the
    stored readings from the alerts job's committed offsets on; the archive publishes what comes after. Dying on any
    line is repaired by the next start; what is then sent again has the same ids.
    """
    latest, mode = latest_change(run.spark, run.settings), run.settings.alerts.mode
    if mode == latest.mode:
        return
    if mode == REALTIME:
        change = Change(latest.number + 1, mode, published_by_archive(run.settings))
    else:
        publish_since(run, _judged_by_alerts(run, latest))
        change = Change(latest.number + 1, mode)
    _write(run, change)
    run.say(f"anomalies of readings are now published by the {'alerts job' if mode == REALTIME else 'archive query'}")


def _judged_by_alerts(run: Run, change: Change) -> Offsets:
    committed = committed_offsets(
        run.spark, alerts_checkpoint(run.settings, change), run.settings.kafka.topics.readings
    )
    return change.published | (committed or {})


def publish_since(run: Run, since: Offsets) -> None:
    """Judge the stored readings at or behind the offsets, and send what is found; again gives the same ids."""
    settings = run.settings
    stored = run.table("readings").where(is_at_or_behind(since)).select("*", F.lit(None).cast("string").alias("reason"))
    judged = judge(place(stored, run.meters, settings=settings), run.table("baselines"), settings=settings)
    send(encode_anomalies(reading_anomalies(judged)), settings, settings.kafka.topics.anomalies)


def _path(settings: Settings, number: int) -> str:
    return checkpoint_path(settings, f"alerts-mode/{number}.json")


def _exists(spark: SparkSession, path: str) -> bool:
    file_system, hadoop_path = hadoop_file(spark, path)
    return bool(file_system.exists(hadoop_path))


def _write(run: Run, change: Change) -> None:
    """Under its name only when it is whole."""
    path = _path(run.settings, change.number)
    file_system, draft = hadoop_file(run.spark, f"{path}.draft")
    file_system.delete(draft, False)
    write_text(file_system, draft, json.dumps({k: v for k, v in asdict(change).items() if k != "number"}))
    file_system.rename(draft, hadoop_file(run.spark, path)[1])
