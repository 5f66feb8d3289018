"""`python -m benchmarks.recompute`: how long `gridwatch recompute` takes over a day of one-minute readings."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.lake.frames import as_declared
from pipelines.readings.flags import flag_readings
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.settings import Settings
from pipelines.small_tables import append_rows, create_tables, read_rows
from pipelines.tables import METER_WINDOWS, METERS, READINGS
from pipelines.windows.features import features, sums_of_windows
from pipelines.windows.judge import WindowsJudge, no_history
from pipelines.windows.panes import partial_panes

DAY, MINUTES, AFFECTED = "2026-03-02", 1440, 100
"""Every so many-th meter was late from 06:00 to 07:00 (or in one minute of each hour), and corrected from 08:00 on for
an hour."""


def readings(meters: int, *, all_day: bool) -> pl.DataFrame:
    """A day of readings about 230 V; those of hour 8 of the affected meters come twice."""
    rng = np.random.default_rng(7)
    meter, minute = np.divmod(np.arange(meters * MINUTES), MINUTES)
    start = pl.datetime(2026, 3, 2, time_zone="UTC")
    rows = pl.DataFrame({"meter": meter, "minute": minute, "noise": rng.uniform(-1, 1, len(meter))})
    is_affected = pl.col("meter") % AFFECTED == 0
    is_missed = pl.col("minute") % 60 == 30 if all_day else pl.col("minute").is_between(360, 419)
    first = rows.with_row_index("kafka_offset").select(
        meter_id=pl.format("m{}", pl.col("meter").cast(pl.String).str.zfill(6)),
        event_ts=start + pl.duration(minutes="minute"), voltage_v=230.0 + pl.col("noise"), current_a=5.0,
        temperature_c=20.0, status=pl.lit("OK"), is_late=is_affected & is_missed, is_resent=False,
        kafka_topic=pl.lit("sensor-readings"), kafka_partition=0, kafka_offset=pl.col("kafka_offset").cast(pl.Int64),
    )  # fmt: skip
    is_wrong = (rows["meter"] % AFFECTED == 0) & (rows["minute"] // 60 == 8)
    again = first.filter(is_wrong).with_columns(
        voltage_v=190.0, is_resent=True, kafka_offset=pl.col("kafka_offset") + 10**9
    )
    return pl.concat([first, again]).with_columns(kafka_ts="event_ts", event_date=pl.col("event_ts").dt.date())


def build_lake(settings: Settings, meters: int, *, all_day: bool) -> None:
    """The tables as the stream would have left them, but for anomalies of its own."""
    create_tables(settings)
    d, known = settings.detection, pl.DataFrame(read_rows(settings, METERS))
    placed = attach_meters(readings(meters, all_day=all_day), placed_meters(known, detection=d), detection=d)
    flagged = flag_readings(placed, detection=d)
    append_rows(as_declared(flagged, READINGS).to_arrow(), settings, READINGS)
    counted = flagged.filter(~pl.col("is_late") & ~pl.col("is_resent"))
    panes = partial_panes(counted.with_columns(event_ms=pl.col("event_ts").dt.epoch("ms")), slide_s=d.slide_s)
    made = features(sums_of_windows(panes, window_s=d.window_s, slide_s=d.slide_s), window_s=d.window_s)
    judge, history = WindowsJudge(d, settings.incidents, known), no_history()
    of_day = made.filter(pl.col("window_date") == pl.lit(DAY).str.to_date()).sort("window_end")
    for _, of_end in of_day.group_by("window_end", maintain_order=True):
        judged = judge.measure(of_end, history)
        history = judged.history
        append_rows(judged.windows.to_arrow(), settings, METER_WINDOWS)


def main() -> int:
    """Print one JSON line a run: dry, written, and written again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meters", type=int, default=1000)
    parser.add_argument("--all-day", action="store_true", help="late in every hour: all windows of the day again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gridwatch-bench-") as folder:
        here = Path(folder)
        values = {"lake.root": here / "lake", "pipeline.checkpoint": here / "checkpoint", "detection.cadence_s": 60}
        settings = Settings.model_validate(
            {
                "lake": {"root": str(here / "lake")}, "pipeline": {"checkpoint": str(here / "checkpoint")},
                "detection": {"cadence_s": 60},
            }
        )  # fmt: skip
        build_lake(settings, args.meters, all_day=args.all_day)
        words = [sys.executable, "-m", "pipelines", "recompute", "--from", DAY, "--to", "2026-03-03", "--json"]
        words += [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
        for more in (["--dry-run"], [], []):
            began = time.monotonic()
            done = subprocess.run([*words, *more], stdout=subprocess.PIPE, check=True, text=True)
            found = json.loads(done.stdout)
            figures = {name: found[name] for name in ("readings", "meter_windows", "anomalies", "incidents", "written")}
            print(json.dumps({"meters": args.meters, "seconds": round(time.monotonic() - began, 1), **figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
