"""The zip for `spark-submit --py-files` holds all that a job needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipelines.package import main, write_package

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist") / "gridwatch.zip"
    write_package(target)
    return target


def run_from(package: Path, program: str) -> str:
    """What a program prints that finds our packages in the zip alone: no checkout, no installation."""
    kept = f"[p for p in sys.path if p not in ('', {str(ROOT)!r})]"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path = [{str(package)!r}] + {kept}\n{program}"],
        cwd=package.parent,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_module_and_conf_file_of_the_checkout_is_in_the_zip(package: Path) -> None:
    names = set(zipfile.ZipFile(package).namelist())
    sources = [*ROOT.glob("pipelines/**/*.py"), *ROOT.glob("generator/**/*.py")]
    assert {source.relative_to(ROOT).as_posix() for source in sources} <= names
    assert {"conf/gridwatch.toml", "conf/contracts/sensor_reading.json", "conf/spark-defaults.conf"} <= names


def test_caches_and_hidden_files_stay_out(package: Path) -> None:
    for name in zipfile.ZipFile(package).namelist():
        assert "__pycache__" not in name
        assert not any(part.startswith(".") for part in name.split("/"))
        assert name.startswith(("pipelines/", "generator/", "conf/"))


def test_the_same_sources_give_the_same_bytes(package: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    write_package(again)
    assert again.read_bytes() == package.read_bytes()


def test_names_are_sorted_and_carry_no_time(package: Path) -> None:
    entries = zipfile.ZipFile(package).infolist()
    assert [e.filename for e in entries] == sorted(e.filename for e in entries)
    assert {e.date_time for e in entries} == {(1980, 1, 1, 0, 0, 0)}


def test_the_pipeline_reads_settings_and_contracts_out_of_the_zip(package: Path) -> None:
    program = """
import pipelines.contract, pipelines.conf_files
from pipelines.settings_load import load_settings
print(pipelines.conf_files.__file__)
print(pipelines.contract.message("sensor_reading").fields[0].name)
print(load_settings().settings.detection.sigma)
"""
    module, field, sigma = run_from(package, program).splitlines()
    assert module.startswith(str(package))
    assert (field, sigma) == ("meterId", "2.5")


def test_conf_files_for_the_jvm_are_copied_out_of_the_zip(package: Path) -> None:
    program = """
from pipelines.conf_files import conf_folder_for
folder = conf_folder_for("spark-defaults.conf", "log4j2.properties")
print((folder / "spark-defaults.conf").read_text())
"""
    assert run_from(package, program) == (ROOT / "conf" / "spark-defaults.conf").read_text().strip()


def test_the_generator_finds_its_contracts_in_the_zip(package: Path) -> None:
    program = """
import generator.contracts as c
print(c.__file__)
print(c.reading_fields()[0].name, c.rejection_reasons()[0])
"""
    module, said = run_from(package, program).splitlines()
    assert module.startswith(str(package))
    assert said.startswith("meterId ")


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "new" / "gridwatch.zip")]) == 0
    assert "gridwatch.zip" in capsys.readouterr().err


def test_a_target_that_cannot_be_written_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file" / "gridwatch.zip")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
