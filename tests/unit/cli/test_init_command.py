"""`gridwatch init` writes a file that loads as it is, and whose every line loads once the # is taken away."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pipelines.cli.init import settings_text
from pipelines.cli.main import main
from pipelines.settings import Settings
from pipelines.settings_load import is_secret, load_settings, setting_fields

NO_SASL = {"GRIDWATCH_KAFKA__SASL_PASSWORD": "hunter2"}
PLAIN = [name for name, field in setting_fields() if not is_secret(field)]


def test_the_file_as_written_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    assert main(["init", str(file)]) == 0
    assert load_settings(file, environment={}).settings == Settings()


def test_every_setting_stands_in_it_once_with_its_meaning() -> None:
    text = settings_text([])
    for name, field in setting_fields():
        short = name.rpartition(".")[2]
        assert re.search(rf"^#? ?{short}( =|:)", text, flags=re.MULTILINE), name
        assert " ".join(field.description.split()[:4]) in text
    assert len(re.findall(r"(?m)^#?\w+ = ", text)) == len(PLAIN)


def test_an_example_is_told_from_a_default_and_no_markdown_is_left() -> None:
    text = settings_text([])
    unset = {name.rpartition(".")[2] for name, field in setting_fields() if name in PLAIN and field.default is None}
    assert set(re.findall(r"(?m)^# \(not set; an example:\)\n#(\w+) = ", text)) == unset
    assert "](" not in text


def test_every_line_can_be_put_in_force(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(re.sub(r"(?m)^#(\w+ = )", r"\1", settings_text([])))
    loaded = load_settings(file, environment=NO_SASL)
    assert set(PLAIN) <= set(loaded.sources)
    assert loaded.settings.detection == Settings().detection
    assert loaded.settings.lake.fleet == "conf/fleet.csv"


def test_what_is_given_is_in_force(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    given = ["lake.root=s3a://grid/lake", "detection.sigma=3", "kafka.retention=14 d", "incidents.mute=[]"]
    assert main(["init", str(file), *(word for one in given for word in ("--set", one))]) == 0
    loaded = load_settings(file, environment={})
    assert (loaded.settings.lake.root, loaded.settings.detection.sigma) == ("s3a://grid/lake", 3)
    assert loaded.settings.kafka.retention == 14 * 86400


def test_secrets_are_named_and_cannot_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert "GRIDWATCH_STORE__SECRET_KEY" in settings_text([])
    assert main(["init", "--set", "store.secret_key=x"]) == 2
    assert "is a secret" in capsys.readouterr().err


def test_an_existing_file_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my.toml"
    file.write_text("mine")
    assert main(["init", str(file)]) == 2
    assert "exists" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_a_setting_that_is_refused_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    assert main(["init", str(file), "--set", "detection.sigma=9"]) == 2
    assert not file.exists()


def test_without_a_file_the_text_is_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["lake"]["root"] == "lake"
