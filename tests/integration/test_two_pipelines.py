"""Several sites: three classes of meters in one stream, and a second pipeline of another cadence beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.lake_sql import open_lake
from pipelines.local.broker import RunningBroker
from pipelines.local.demo_report import fault_figures
from pipelines.local.processes import Child
from pipelines.settings import Settings
from pipelines.settings_load import load_settings
from tests.integration.support import ROOT, Place, end_leftovers, stopped, wait_for, wait_until_reading

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TRAFFIC = {
    "every-10-s": ("--fleet", "mixed", "--meters", "60", "--meters-per-feeder", "6", "--rate", "3000",
                   "--seconds", "8", "--watermark", "10", "--late-by", "600", "--seed", "9"),
    "every-15-min": ("--nominal-voltage", "120", "--meters", "40", "--meters-per-feeder", "10", "--rate", "2000",
                     "--seconds", "4", "--watermark", "300", "--late-by", "20000", "--seed", "5"),
}  # fmt: skip
"""About an hour of 10-second readings, and two days of quarter hours, of feeders in two regions and of one."""
LIMITS_V = {"residential-230": (207.0, 253.0), "residential-120": (108.0, 132.0), "transformer": (360.0, 440.0)}


@dataclass(frozen=True)
class Site:
    """One pipeline of several: its settings file, with places and topics of the test's own."""

    name: str
    place: Place

    @property
    def file(self) -> Path:
        return ROOT / "conf" / "sites" / f"{self.name}.toml"

    @property
    def settings(self) -> Settings:
        """What its pipeline sees."""
        variables = {name: value for name, value in self.place.environment.items() if name.startswith("GRIDWATCH_")}
        return load_settings(self.file, (), variables).settings

    def generate(self) -> None:
        """Send its fleet's readings."""
        self.place.create_topics()
        cadence_s = f"{self.settings.detection.cadence_s:g}"
        self.place.generate("--cadence", cadence_s, *TRAFFIC[self.name])

    def run(self) -> Child:
        return self.place.gridwatch("pipeline", "run", "--settings", str(self.file))

    def is_done(self) -> bool:
        """Whether all is archived and the incidents' clock has passed the data's end: closing readings follow it."""
        end = f'(SELECT max("end") FROM labels) + INTERVAL {int(self.settings.detection.slide_s)} SECOND'
        closed = f"SELECT max(window_end) > {end} FROM meter_windows"
        told = "SELECT count(*) > 0 FROM anomalies WHERE stage <> 'reading'"
        return self.place.archived() and self.place.ask(closed) == [(True,)] and self.place.ask(told) == [(True,)]


@pytest.fixture(scope="module")
def sites(kafka: RunningBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """
    readings of both   |==== all ====|
    every-10-s                        start ------- done, SIGTERM
    every-15-min                      start ------- done, SIGTERM
    """
    made: dict[str, Site] = {}
    try:
        for name in TRAFFIC:
            place = Place(tmp_path_factory.mktemp(name), kafka.bootstrap_servers)
            files = {"lake__fleet": place.run_dir / "fleet.csv", "lake__labels": place.run_dir / "labels.csv"}
            made[name] = Site(name, place.with_settings(**files))
        for site in made.values():
            site.generate()
        with ExitStack() as running:
            jobs = {name: running.enter_context(stopped(site.run())) for name, site in made.items()}
            for job in jobs.values():
                wait_until_reading(job)
            for name, site in made.items():
                wait_for(jobs[name], f"all of {name} in the tables", site.is_done, 180)
        yield made
    finally:
        for site in made.values():
            end_leftovers(site.place.mark)


@pytest.mark.parametrize("name", TRAFFIC)
def test_every_record_of_each_is_in_its_own_tables(sites: dict[str, Site], name: str) -> None:
    site = sites[name]
    report, sent = site.place.verify(), site.place.summary()["produced"]
    assert report.ok, report.verdict
    assert (report.archived + report.rejected, report.lag) == (sent, 0)
    strangers = "SELECT count(*) FROM readings WHERE meter_id NOT IN (SELECT meter_id FROM meters)"
    assert site.place.ask(strangers) == [(0,)]


@pytest.mark.parametrize(("name", "minutes", "slide"), [("every-10-s", 5, 1), ("every-15-min", 225, 45)])
def test_windows_are_as_long_as_the_cadence_wants(sites: dict[str, Site], name: str, minutes: int, slide: int) -> None:
    asked = "SELECT DISTINCT (epoch(window_end) - epoch(window_start)) / 60, epoch(window_end) % {} FROM meter_windows"
    assert sites[name].place.ask(asked.format(60 * slide)) == [(minutes, 0)]


@pytest.mark.parametrize("meter_class", LIMITS_V)
def test_meters_of_each_class_are_judged_in_their_own_units(sites: dict[str, Site], meter_class: str) -> None:
    """A home's 120 V would be an outage at a transformer, and a transformer's 400 V an impossible value at a home."""
    low, high = LIMITS_V[meter_class]
    found = sites["every-10-s"].place.ask(
        "SELECT anomaly_type, observed FROM anomalies JOIN meters USING (meter_id)"
        f" WHERE meter_class = '{meter_class}' AND stage = 'reading'"
        " AND anomaly_type IN ('undervoltage', 'overvoltage')"
    )
    assert found
    for kind, volts in found:
        assert volts < low if kind == "undervoltage" else volts > high
    readings = (
        f"SELECT avg(is_in_band::INT) FROM readings JOIN meters USING (meter_id) WHERE meter_class = '{meter_class}'"
    )
    ((in_band,),) = sites["every-10-s"].place.ask(readings)
    assert in_band > 0.8, "most readings of a class are within its band"


@pytest.mark.parametrize("name", TRAFFIC)
def test_their_faults_are_found_and_hardly_anything_else(sites: dict[str, Site], name: str) -> None:
    with open_lake(sites[name].settings) as lake:
        figures = fault_figures(lake)
    print(name, sites[name].place.summary()["produced"], figures)
    assert int(figures["injected"] or 0) >= 25
    assert figures["recall"] == 1.0
    assert float(figures["precision"] or 0) >= 0.95, "fault_figures allows 5 min, a third of the slower cadence"
