"""Three classes of meters of two regions in one stream of readings: their faults are found, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from generator.faults import STATUSES
from generator.fleet import write_fleet
from generator.kinds import ALL, KINDS
from generator.labels import write_labels
from generator.plan import make_plan
from generator.scenario import Scenario, build_scenario, readings_between
from pipelines.evaluation.evaluate import Run, evaluate, read_run
from pipelines.evaluation.labels import Label
from pipelines.offline.detect import detect
from pipelines.offline.files import open_readings
from pipelines.offline.survey import survey
from tests.factories import settings

START_MS = 1_772_409_600_000
HOURS = 2
CADENCE_S = 20.0
REGIONS = {"residential-230": "europe", "transformer": "europe", "residential-120": "america"}
CLASSES: dict[str, dict[str, Any]] = {
    "residential-230": {},
    "residential-120": {"own_load_ohm": 0.21},
    "transformer": {"own_load_ohm": 0.01, "over_temperature_c": [95, 110, 130], "overcurrent_pu": [1.05, 1.2, 1.5]},
}


KINDS_OF_METERS = [name for name in ALL if KINDS[name].scope == "meter" and name != "drift"]
PARTS: dict[str, dict[str, Any]] = {
    # Small feeders, so that there are many transformers, each with four homes to compare with.
    "meters": {"meters": 60, "meters_per_feeder": 5, "seed": 9, "faults": ",".join(KINDS_OF_METERS),
               "faults_per_meter_day": 22.0},
    "feeders": {"meters": 48, "meters_per_feeder": 12, "seed": 5, "faults": "feeder_sag,feeder_swell,feeder_outage"},
    "quiet": {"meters": 36, "meters_per_feeder": 6, "seed": 12, "faults": "none"},
}  # fmt: skip
"""Three fleets side by side in one stream; a part's name stands before the ids of its meters and feeders."""


def scenario(part: str) -> Scenario:
    """A mixed fleet: half of the feeders in each region."""
    end_ms = START_MS + HOURS * 3_600_000
    shape = {"cadence_s": CADENCE_S, "fleet": "mixed", **PARTS[part]}
    return build_scenario(make_plan(0, paced=False, start_ms=START_MS, end_ms=end_ms, **shape))


def readings_of(made: Scenario) -> pd.DataFrame:
    block = readings_between(made, made.plan.start_ms, made.plan.closing_end_ms)
    return pd.DataFrame(
        {
            "meter_id": [made.network.meter_id[meter] for meter in block.meter],
            "ts": pd.to_datetime(block.ts, unit="ms", utc=True),
            "voltage_v": block.voltage_v,
            "current_a": block.current_a,
            "temperature_c": block.temperature_c,
            "status": [STATUSES[status] for status in block.status],
        }
    )


def together(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Frames of the parts as one, with ids of their own."""
    renamed = []
    for part, frame in frames.items():
        ids = {
            n: frame[n].where(frame[n] == "", f"{part}-" + frame[n]) for n in ("meter_id", "feeder_id") if n in frame
        }
        renamed.append(frame.assign(**ids))
    return pd.concat(renamed, ignore_index=True)


class Judged:
    """The run as a whole, and the part of it that is about one class."""

    def __init__(self, run: Run, fleet: pd.DataFrame) -> None:
        self.run = run
        self.meters = {name: set(rows["meter_id"]) for name, rows in fleet.groupby("meter_class")}
        self.feeders = {name: set(rows["feeder_id"]) for name, rows in fleet.groupby("region")}

    def of(self, name: str) -> Run:
        """Meters of the class; feeders' events of its region explain what they say, and are none of its labels."""
        meters, feeders = self.meters[name], self.feeders[REGIONS[name]]

        def about(rows: pd.DataFrame) -> pd.DataFrame:
            return rows[rows["meter_id"].isin(meters) | (rows["meter_id"].isna() & rows["feeder_id"].isin(feeders))]

        labels = [x for x in self.run.labels if (x.feeder_id in feeders if x.is_feeder else x.meters <= meters)]
        readings = self.run.readings[self.run.readings["meter_id"].isin(meters)]
        return replace(
            self.run, readings=readings, labels=labels,
            anomalies=about(self.run.anomalies), incidents=about(self.run.incidents),
        )  # fmt: skip


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("mixed")
    made = {part: scenario(part) for part in PARTS}
    fleet = together({part: one.fleet for part, one in made.items()})
    readings = together({part: readings_of(one) for part, one in made.items()})
    labels = together({part: one.labels() for part, one in made.items() if one.faults})
    write_fleet(fleet, folder / "fleet.csv")
    write_labels(labels, folder / "labels.csv")
    readings.to_parquet(folder / "readings.parquet")
    out = folder / "out"
    chosen = settings(detection={"cadence_s": CADENCE_S, "classes": CLASSES})
    file = folder / "readings.parquet"
    opened = open_readings(file)
    found = survey(opened, file)
    detect(chosen, readings=opened, found=found, fleet=folder / "fleet.csv", out=out, say=lambda line: None)
    return Judged(read_run(out, readings, fleet, folder / "labels.csv"), fleet)


def is_quiet(rows: pd.DataFrame) -> pd.Series[bool]:
    found: pd.Series[bool] = rows["feeder_id"].str.startswith("quiet-")
    return found


@pytest.mark.parametrize("name", CLASSES)
def test_the_faults_of_every_class_are_found_and_nothing_else(judged: Judged, name: str) -> None:
    run = judged.of(name)
    figures = evaluate(run)["gridwatch"]
    assert len({label.kind for label in run.labels if not label.is_feeder}) >= 11
    assert figures["missed"] == []
    assert figures["false"] == []


def test_events_of_feeders_of_several_classes_are_found_once(judged: Judged) -> None:
    events: list[Label] = [label for label in judged.run.labels if label.is_feeder]
    kinds = evaluate(judged.run)["gridwatch"]["kinds"]
    assert {label.kind for label in events} == {"feeder_sag", "feeder_swell", "feeder_outage"}
    for kind in {label.kind for label in events}:
        assert kinds[kind]["found"] == kinds[kind]["labels"]


def test_a_fleet_without_faults_raises_nothing(judged: Judged) -> None:
    anomalies, incidents = judged.run.anomalies, judged.run.incidents
    assert is_quiet(judged.run.readings).any()
    assert anomalies[is_quiet(anomalies) & (anomalies["severity"] != "INFO")].empty
    assert incidents[is_quiet(incidents)].empty
