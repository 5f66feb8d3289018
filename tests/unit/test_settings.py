"""Settings come from file, environment and --set; what is wrong is refused at start in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import SettingsError
from pipelines.identity.record import shape_of
from pipelines.setting_facts import is_duration, legal, written
from pipelines.settings import Limits, Settings
from pipelines.settings_load import (
    environment_name,
    is_secret,
    known_environment_names,
    load_settings,
    setting_fields,
)

FIELDS = dict(setting_fields())


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A settings file that says nothing."""
    path = tmp_path / "empty.toml"
    path.write_text("")
    return path


def refusal(*assignments: str, file: Path | None = None, **environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(file, assignments, environment)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("detection.sigma=9", "detection.sigma = 9 (from --set)"),
        ("detection.sigma=nan", "detection.sigma = nan"),
        ("detection.sigma=x", "detection.sigma = 'x'"),
        ("detection.watermark=ten", "a duration is a number with ms, s, min, h or d"),
        ("detection.watermark=-3", "legal: duration ≥ 0; a plain number is seconds"),
        ("pipeline.driver_memory=120m", "Spark does not start with less than 512m"),
        ("detection.undervoltage_pu=0.9", "detection.undervoltage_pu = 0.9"),
        ("alerts.mode=realtime", "is no setting any more: take it out"),
        ("kafka.topics.heartbeats=x", "the alerts send no heartbeats any more"),
        ("lake.root=", "legal: text not empty"),
        ("kafka=3", "kafka = 3 (from --set): kafka is a section; its settings are kafka.bootstrap_servers"),
        ("kafka.retention=7", "kafka.retention = 7 (from --set): legal: duration ≥ 1 min; a plain number is seconds"),
        ("pipeline.driver_memory=2 GB", "legal: text such as 512m or 2g"),
        ("notify.alertmanager=am:9093", "legal: text such as http://127.0.0.1:9093"),
        ("console.names=a,b", "legal: list of texts"),
        ("kafka.min_insync_replicas=2", "kafka.min_insync_replicas = 2 is more than kafka.replication_factor = 1"),
        ("kafka.bootstrap_servers=kafka-1", "'kafka-1' is no host:port"),
        ("kafka.bootstrap_servers=kafka-1:99999", "'kafka-1:99999' is no host:port with a port from 1 to 65535"),
        ("kafka.bootstrap_servers=kafka-1:9092,", "'nothing' is no host:port"),
        ("kafka.bootstrap_servers=http://kafka-1:9092", "is no host:port"),
        ("kafka.topics.readings=a b", "a topic's name is 1 to 249 letters"),
        ("kafka.topics.readings=", "a topic's name is 1 to 249 letters"),
        ("lake.root=hdfs://nn/lake", "lake.root = 'hdfs://nn/lake' (from --set): give a folder, or s3a://bucket"),
        ("lake.root=s3a://", "give a folder, or s3a://bucket"),
        ("lake.root=s3a:///lake", "give a folder, or s3a://bucket"),
        ("store.endpoint=http://127.0.0.1:abc", "store.endpoint = 'http://127.0.0.1:abc' (from --set): give http://"),
        ("store.endpoint=127.0.0.1:9000", "give http:// or https://"),
        ("store.endpoint=http://:9000", "give http:// or https://"),
        ("store.endpoint=http://[::1:9000", "give http:// or https://"),
    ],
)
def test_a_value_out_of_its_range_is_named_with_its_source(assignment: str, words: str) -> None:
    assert words in refusal(assignment)


@pytest.mark.parametrize(
    "assignment",
    [
        "kafka.bootstrap_servers=kafka-1:9092, [::1]:9093,10.0.0.1:1",
        "kafka.topics.readings=Grid.readings_v2-a",
        "lake.root=s3-copy/lake",
        "lake.root=s3://grid",
        "lake.root=s3a://grid/lake",
        "store.endpoint=http://[::1]:9000",
        "store.endpoint=https://s3.example.net/",
    ],
)
def test_addresses_and_names_that_can_be_meant_are_taken(assignment: str, empty: Path) -> None:
    assert load_settings(empty, [assignment], {}).sources


@pytest.mark.parametrize("name", ["nothing", "detection."])
def test_an_unknown_name_is_refused_and_says_where_all_are_listed(name: str) -> None:
    assert refusal(f"{name}=3") == f"{name} is no setting; docs/configuration.md lists them all"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("detection.sigm", "detection.sigma"),
        ("detection.sigma.more", "detection.sigma"),
        ("kafka.bootstrap_server", "kafka.bootstrap_servers"),
        ("bootstrap_servers", "kafka.bootstrap_servers"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(name: str, meant: str) -> None:
    said = refusal(f"{name}=3")
    assert said == f"{name} is no setting; did you mean {meant}? docs/configuration.md lists them all"


def test_two_topics_with_one_name_are_refused() -> None:
    assert refusal("kafka.topics.readings=x", "kafka.topics.anomalies=x") == (
        "kafka.topics: readings and anomalies are both 'x': every topic needs a name of its own"
    )


def test_only_what_is_missing_for_sasl_is_asked_for() -> None:
    protocol = "kafka.security_protocol=SASL_SSL"
    without_password = refusal(protocol, "kafka.sasl_username=me")
    assert "kafka.sasl_username" not in without_password
    assert "GRIDWATCH_KAFKA__SASL_PASSWORD_FILE" in without_password
    assert refusal(protocol, GRIDWATCH_KAFKA__SASL_PASSWORD="hunter2").endswith("needs kafka.sasl_username")


def test_a_section_cannot_be_a_value_and_a_section_at_once() -> None:
    assert "detection.sigma is no setting" in refusal("detection=3", "detection.sigma=3")


@pytest.mark.parametrize("assignment", ["nope", "detection.sigma", "=x"])
def test_an_assignment_without_a_value_shows_the_form(assignment: str) -> None:
    assert "section.name=value" in refusal(assignment)


def test_an_unknown_environment_variable_is_refused() -> None:
    said = refusal(GRIDWATCH_DETECTION__SIGM="3")
    assert "GRIDWATCH_DETECTION__SIGM is no setting; did you mean GRIDWATCH_DETECTION__SIGMA?" in said


def test_a_bad_environment_value_is_named_with_its_source() -> None:
    assert "detection.sigma = 'x' (from environment)" in refusal(GRIDWATCH_DETECTION__SIGMA="x")


@pytest.mark.parametrize("name", ["kafka.sasl_password", "store.access_key", "store.secret_key", "console.token"])
def test_a_secret_is_refused_after_set_and_in_the_file(name: str, tmp_path: Path) -> None:
    section, _, key = name.partition(".")
    path = tmp_path / "settings.toml"
    path.write_text(f'[{section}]\n{key} = "hunter2"\n')
    for said in (refusal(f"{name}=hunter2"), refusal(file=path)):
        assert environment_name(name) in said
        assert "hunter2" not in said


def test_a_secret_is_not_shown_by_what_prints_the_settings(empty: Path) -> None:
    loaded = load_settings(empty, (), {"GRIDWATCH_STORE__SECRET_KEY": "hunter2"})
    assert "hunter2" not in repr(loaded)
    key = loaded.settings.store.secret_key
    assert key is not None
    assert key.get_secret_value() == "hunter2"


def test_exactly_the_credentials_are_secret() -> None:
    secret = {name for name, field in FIELDS.items() if is_secret(field)}
    webhooks = {f"notify.webhook_{severity}" for severity in ("warning", "error", "critical")}
    assert secret == {"kafka.sasl_password", "store.access_key", "store.secret_key", "console.token"} | webhooks


@pytest.mark.parametrize(
    ("text", "words"),
    [("[detection\n", "is not TOML"), ("[detection]\nsigm = 3\n", "detection.sigm is no setting")],
)
def test_a_broken_file_is_named(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    assert words in refusal(file=path)


def test_a_file_in_another_encoding_says_how_to_save_it(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes('[lake]\nroot = "Zähler"\n'.encode("latin-1"))
    assert refusal(file=path) == f"settings file {path} is not UTF-8: save it as UTF-8"


def test_a_file_that_is_not_there_says_how_to_name_another(tmp_path: Path) -> None:
    assert "--settings" in refusal(file=tmp_path / "none.toml")


def test_set_wins_over_environment_and_environment_over_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[detection]\nsigma = 2\npeers = 4\nmin_history = 9\n")
    environment = {"GRIDWATCH_DETECTION__SIGMA": "3", "GRIDWATCH_DETECTION__PEERS": "5"}
    loaded = load_settings(path, ["detection.sigma=3.5"], environment)
    detection = loaded.settings.detection
    assert (detection.sigma, detection.peers, detection.min_history) == (3.5, 5, 9)
    assert loaded.sources == {
        "detection.sigma": "--set",
        "detection.peers": "environment",
        "detection.min_history": str(path),
    }


def test_the_settings_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[detection]\nsigma = 2\n")
    assert load_settings(environment={"GRIDWATCH_SETTINGS": str(path)}).settings.detection.sigma == 2


def test_a_list_has_the_same_spelling_in_all_three_places(empty: Path, tmp_path: Path) -> None:
    spelling, name = "[0.91, 0.8, 0.7]", "detection.undervoltage_pu"
    path = tmp_path / "settings.toml"
    path.write_text(f"{name} = {spelling}\n")
    loaded = [
        load_settings(path, (), {}),
        load_settings(empty, (), {environment_name(name): spelling}),
        load_settings(empty, [f"{name}={spelling}"], {}),
    ]
    assert {one.settings.detection.undervoltage_pu for one in loaded} == {(0.91, 0.8, 0.7)}


@pytest.mark.parametrize(
    ("cadence_s", "window_s", "slide_s"),
    [(1, 300, 60), (10, 300, 60), (20, 300, 60), (60, 900, 180), (3600, 54_000, 10_800)],
)
def test_the_window_follows_the_cadence(cadence_s: float, window_s: float, slide_s: float) -> None:
    detection = load_settings(None, [f"detection.cadence_s={cadence_s}"], {}).settings.detection
    assert (detection.window_s, detection.slide_s) == (window_s, slide_s)
    assert detection.baseline_max_age_s == max(600, 2 * window_s)


def test_a_silent_meter_is_silent_after_the_longer_of_both_limits() -> None:
    at = [load_settings(None, [f"detection.cadence_s={c}"], {}).settings.detection for c in (10, 3600)]
    assert [d.silent_after_s for d in at] == [300, 18_000]


def test_the_horizon_of_resent_readings_follows_the_watermark() -> None:
    wide = load_settings(None, ["detection.watermark=5 min"], {}).settings
    fixed = load_settings(None, ["input.resent_horizon=1 h"], {}).settings
    assert (wide.resent_horizon_s, fixed.resent_horizon_s) == (3000, 3600)


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["detection.slide=70 s"], "detection.slide = 70 s must divide detection.window = 5 min"),
        (["detection.slide=5 min"], "two times or more"),
        (["detection.slide=0 s"], "must divide"),
        (["detection.window=5 min", "detection.cadence_s=60"], "make the window longer"),
        (["input.max_skew=10 s"], "input.max_skew = 10 s must be below detection.watermark = 10 s"),
        (["kafka.security_protocol=SASL_SSL"], "GRIDWATCH_KAFKA__SASL_PASSWORD"),
        (["input.fields.voltage=meterId"], "every field needs a name of its own"),
        (["detection.undervoltage_pu=[0.8,0.9,0.7]"], "limits must become more extreme"),
        (["detection.overcurrent_pu=[1,1,1.5]"], "limits must become more extreme"),
        (["detection.interruption_pu=0.45", "detection.undervoltage_pu=[0.9,0.8,0.4]"], "interruption <"),
        (["detection.implausible_pu=1.25", "detection.overvoltage_pu=[1.1,1.2,1.3]"], "implausible_pu"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(assignments: list[str], words: str) -> None:
    assert words in refusal(*assignments)


def test_every_default_is_legal_and_every_setting_is_described(empty: Path) -> None:
    assert load_settings(empty, (), {}).sources == {}
    assert all(field.description and legal(field) for field in FIELDS.values())


def test_every_setting_has_an_environment_variable_of_its_own() -> None:
    names = [environment_name(name) for name in FIELDS]
    assert len(set(names)) == len(names)
    assert set(names) < known_environment_names()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kafka.partitions", "whole number ≥ 1 and ≤ 1024"),
        ("kafka.retention", "duration ≥ 1 min"),
        ("detection.window", "duration or auto"),
        ("detection.undervoltage_pu", "3 numbers"),
        ("store.secret_key", "secret"),
        ("input.fields.temperature_unit", "C, F, K"),
        ("pipeline.driver_memory", "text such as 512m or 2g"),
    ],
)
def test_the_legal_values_of_a_setting_are_told_in_words(name: str, words: str) -> None:
    assert legal(FIELDS[name]) == words


def test_durations_are_written_with_their_unit() -> None:
    assert is_duration(FIELDS["kafka.retention"])
    assert not is_duration(FIELDS["kafka.partitions"])
    assert written(FIELDS["kafka.retention"], 604800) == "7 d"
    assert written(FIELDS["detection.window"], "auto") == "auto"


class TestClassesOfMeters:
    FILE = """[detection.classes.transformer]
nominal_voltage_v = 400
overcurrent_pu = [1.1, 1.3, 1.5]
[detection.classes.residential]
"""

    def test_a_class_has_its_own_limits_and_the_others_of_detection(self, tmp_path: Path) -> None:
        path = tmp_path / "sites.toml"
        path.write_text("[detection]\nstep_pu = 0.04\n" + self.FILE)
        more = ["detection.classes.transformer.own_load_ohm=0.02"]
        loaded = load_settings(path, more, {"GRIDWATCH_DETECTION__RISE_C": "25"})
        limits = loaded.settings.detection.by_class["transformer"]
        assert (limits.overcurrent_pu, limits.own_load_ohm) == ((1.1, 1.3, 1.5), 0.02)
        assert (limits.step_pu, limits.rise_c, limits.undervoltage_pu) == (0.04, 25.0, (0.90, 0.85, 0.70))
        assert loaded.sources["detection.classes.transformer.own_load_ohm"] == "--set"

    def test_a_class_may_have_nothing_of_its_own(self, tmp_path: Path) -> None:
        path = tmp_path / "sites.toml"
        path.write_text(self.FILE)
        detection = load_settings(path, (), {}).settings.detection
        assert list(detection.classes) == ["transformer", "residential"]
        common = detection.model_dump(include=set(Limits.model_fields))
        assert detection.by_class["residential"].model_dump(include=set(Limits.model_fields)) == common

    def test_an_empty_class_takes_nothing_from_a_layer_before(self, tmp_path: Path) -> None:
        path = tmp_path / "sites.toml"
        path.write_text(self.FILE)
        loaded = load_settings(path, ["detection.classes.transformer={}"], {})
        assert loaded.settings.detection.classes["transformer"].nominal_voltage_v == 400

    @pytest.mark.parametrize(
        ("assignment", "words"),
        [
            ("detection.classes.a.own_load_ohm=9", "detection.classes.a.own_load_ohm = 9 (from --set): legal: number"),
            ("detection.classes.a.sigma=3", "no setting of a class of meters; these are nominal_voltage_v, rated"),
            ("detection.classes.a.rise_c=x", "detection.classes.a.rise_c = 'x' (from --set): legal: number > 0"),
            ("detection.classes.a=3", "detection.classes.a = 3 (from --set): detection.classes.a is a section"),
            ("detection.classes.A={}", "detection.classes.A: a class is named by up to 40 small letters"),
            ("detection.classes.a.overcurrent_pu=[2,1,3]", "detection.classes.a.overcurrent_pu = (2.0, 1.0, 3.0)"),
            ("detection.classes.a.implausible_pu=1.2", "detection.classes.a.implausible_pu = 1.2 (from --set): legal"),
            ("detection.classes.a.undervoltage_pu=[0.9,0.8,0.05]", "detection.classes.a.*_pu: interruption <"),
        ],
    )
    def test_what_a_class_cannot_have_is_refused(self, assignment: str, words: str, empty: Path) -> None:
        assert words in refusal(assignment, file=empty)

    def test_they_are_no_part_of_a_checkpoint_as_no_limit_is(self) -> None:
        plain = Settings()
        own = Settings.model_validate({"detection": {"rise_c": 30, "classes": {"a": {"rise_c": 40}}}})
        assert shape_of(own) == shape_of(plain)
