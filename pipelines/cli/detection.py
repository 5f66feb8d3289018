"""Commands of detection beside the stream: detect, evaluate, profiles, backtest."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cli.arguments import Commands, add_command, add_engine, add_time_range, engine_of, settings_of
from pipelines.cli.output import say, say_timed, show
from pipelines.cli.render import as_table
from pipelines.places import require_writable_file, require_writable_folder

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.offline.survey import Survey
    from pipelines.settings import Settings
    from pipelines.settings_load import Loaded
    from pipelines.tables import Table


def register(commands: Commands) -> None:
    """Add the commands."""
    parser = add_command(
        commands,
        "detect",
        "The whole detection over files: writes windows.parquet, anomalies.parquet and incidents.parquet."
        " The cadence is measured unless detection.cadence_s is set by --set or the environment. Needs no Java, and no"
        " memory for the whole file: more than a million readings are put aside in --out, 20 bytes each.",
        detect,
    )
    parser.add_argument(
        "--readings", metavar="FILE", type=Path, required=True,
        help="parquet or csv: meter_id, ts (UTC), voltage_v[, current_a, temperature_c, status]",
    )  # fmt: skip
    parser.add_argument(
        "--fleet", metavar="FILE", type=Path,
        help="csv: meter_id[, feeder_id, phase, transformer_id, nominal_voltage_v, rated_current_a,"
        " region, meter_class]",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the results")
    scored = add_command(
        commands,
        "evaluate",
        "Score the results of detect against labelled events, beside the plain 2.5 sigma + 250 V rule. Needs no Java.",
        evaluate,
        with_settings=False,
    )
    scored.add_argument("--results", metavar="DIR", type=Path, required=True, help="what detect --out wrote")
    scored.add_argument("--readings", metavar="FILE", type=Path, required=True, help="the readings of that detect")
    scored.add_argument("--fleet", metavar="FILE", type=Path, required=True, help="csv: meter_id, feeder_id")
    scored.add_argument(
        "--labels", metavar="FILE", type=Path,
        help="csv: kind, scope, meter_id, start, end[, feeder_id, expected_types]; without it all is false",
    )  # fmt: skip
    scored.add_argument("--report", metavar="FILE", type=Path, help="also write all figures there as JSON")
    scored.add_argument("--plots", metavar="DIR", type=Path, help="also draw there, as SVG")

    profiles_parser = add_command(
        commands,
        "profiles",
        "Compute the profiles of one full day from meter_windows; rules use them from the next day on. Needs no Java.",
        profiles,
    )
    profiles_parser.add_argument(
        "--day", metavar="DATE", type=date.fromisoformat, help="default: the day before the latest window"
    )
    add_engine(profiles_parser)
    again = add_command(
        commands,
        "backtest",
        "Detection over the archive with these settings, against what was found live: same, new, gone. Needs no Java.",
        backtest,
    )
    add_time_range(again)
    add_engine(again)


def profiles(args: argparse.Namespace) -> int:
    """Write the profiles of a day."""
    from pipelines.client_errors import as_ours
    from pipelines.offline.profiles import update_profiles
    from pipelines.tables import PROFILES

    settings = settings_of(args).settings
    _require_lake(settings, writes=[PROFILES])
    with as_ours(settings), engine_of(args, settings, say_timed) as cluster:
        update_profiles(settings, args.day, say_timed, cluster)
    return 0


def backtest(args: argparse.Namespace) -> int:
    """Print the differences by type."""
    from pipelines.client_errors import as_ours
    from pipelines.errors import SettingsError
    from pipelines.offline.backtest import backtest as run
    from pipelines.offline.backtest import backtest_on

    if args.from_ts >= args.to_ts:
        raise SettingsError(f"--from {args.from_ts} must lie before --to {args.to_ts}")
    settings = settings_of(args).settings
    _require_lake(settings)
    with as_ours(settings), engine_of(args, settings, say_timed) as cluster:
        asked = (settings, args.from_ts, args.to_ts, say_timed)
        found = backtest_on(cluster, *asked) if cluster else run(*asked)
    rows = [[one.anomaly_type, one.same, one.new, one.gone] for one in found]
    show(as_table(["anomaly type", "same", "new", "gone"], rows))
    return 0


def _require_lake(settings: Settings, *, writes: Sequence[Table] = ()) -> None:
    from pipelines.client_errors import as_ours
    from pipelines.fleet import require_known_classes
    from pipelines.lake_sql import no_tables
    from pipelines.small_tables import table_is_there
    from pipelines.table_features import require_known_features
    from pipelines.tables import METERS

    with as_ours(settings):
        if not table_is_there(settings, METERS):
            raise no_tables(settings.lake.root)
        require_known_features(settings, writes)
        require_known_classes(settings)


def detect(args: argparse.Namespace) -> int:
    """Detect, and print what was found by type."""
    from pipelines.fleet import gaps, read_fleet
    from pipelines.offline.detect import detect as run
    from pipelines.offline.files import open_readings
    from pipelines.offline.survey import survey

    require_writable_folder("--out", args.out)
    loaded = settings_of(args)
    if args.fleet:
        known = read_fleet(args.fleet, loaded.settings.detection, option="--fleet")
        for line in gaps(args.fleet, known, option="--fleet"):
            say(f"warning: {line}")
    readings = open_readings(args.readings)
    found = survey(readings, args.readings)
    settings = with_measured_cadence(loaded, found, args.readings)
    outcome = run(settings, readings=readings, found=found, fleet=args.fleet, out=args.out, say=say_timed)
    show(as_table(["anomaly type", "anomalies"], [list(item) for item in outcome.anomalies.items()]))
    say_timed(f"{outcome.incidents:,} incidents, {outcome.notifications:,} notifications: {args.out}")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Print the figures by kind, and write them."""
    import pandas as pd

    from pipelines.errors import SettingsError
    from pipelines.evaluation.evaluate import evaluate as run
    from pipelines.evaluation.evaluate import read_run
    from pipelines.evaluation.match import require_match, usable
    from pipelines.evaluation.plots import draw
    from pipelines.evaluation.report import tables
    from pipelines.offline.files import blocks, open_readings

    require_writable_file("--report", args.report)
    if args.plots:
        require_writable_folder("--plots", args.plots)
    fleet = _read_fleet(args.fleet)
    rows = [block.to_pandas() for block in blocks(open_readings(args.readings), ("meter_id", "ts", "voltage_v"))]
    readings = usable(pd.concat(rows, ignore_index=True)) if rows else pd.DataFrame()
    if readings.empty:
        raise SettingsError(f"--readings {args.readings} holds no valid reading; name those of that detect")
    evaluated = read_run(args.results, readings, fleet, args.labels)
    for line in require_match(evaluated, fleet):
        say(f"warning: {line}")
    figures = run(evaluated)
    for names, rows in tables(figures):
        show(as_table(names, rows) + "\n")
    if args.report:
        args.report.write_text(json.dumps(figures, indent=2, default=str) + "\n", encoding="utf-8")
    if args.plots:
        say(f"drawn: {', '.join(str(path) for path in draw(evaluated, args.plots))}")
    return 0


def _read_fleet(path: Path) -> pd.DataFrame:
    import pandas as pd

    from pipelines.fleet import read_csv
    from pipelines.tables import METERS

    rows = read_csv(path, METERS, option="--fleet")
    return pd.DataFrame(list(rows), columns=METERS.column_names)[["meter_id", "feeder_id"]]


def with_measured_cadence(loaded: Loaded, found: Survey, readings: Path) -> Settings:
    """The settings, with the cadence of the file unless someone set it for this run."""
    from pipelines.offline.survey import cadence_of
    from pipelines.settings import Settings

    name = "detection.cadence_s"
    if loaded.sources.get(name) in ("--set", "environment"):
        return loaded.settings
    cadence = cadence_of(found, readings)
    say(f"cadence: {cadence:g} s, measured; --set {name}=... overrides it")
    document = loaded.settings.model_dump()
    document["detection"]["cadence_s"] = cadence
    return Settings.model_validate(document)
