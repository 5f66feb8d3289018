"""The command line: arguments in, one line and an exit code out."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pipelines.cli import main as cli
from pipelines.cli.main import build_parser, main
from pipelines.errors import (
    DataRefused,
    GridwatchError,
    InfrastructureUnavailable,
    SettingsError,
)

PROMISED = {
    "demo", "run", "generate", "topics", "broker", "objectstore", "check", "describe", "verify", "sql",
}  # fmt: skip


def commands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from commands(child, (*path, name))


COMMANDS = list(commands(build_parser()))


def test_the_promised_commands_are_there() -> None:
    assert {path[0] for path in COMMANDS if path} >= PROMISED


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*path, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["nope"], ["topics"], ["broker", "restart"], ["sql", "--nope"], ["check", "--nope"]], ids=" ".join
)
def test_a_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GridwatchError("what"), 1),
        (SettingsError("what"), 2),
        (DataRefused("what"), 3),
        (InfrastructureUnavailable("what"), 4),
    ],
)
def test_an_error_of_ours_is_one_line_and_its_exit_code(
    error: GridwatchError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(error, monkeypatch) == code
    assert capsys.readouterr().err == "gridwatch: what\n"


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_with(KeyboardInterrupt(), monkeypatch) == 130


def run_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    def command(args: argparse.Namespace) -> int:
        raise error

    parser = argparse.ArgumentParser()
    parser.set_defaults(command=command)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    return main([])


def test_generate_hands_its_options_to_the_generator(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["generate", "--help"])
    assert ended.value.code == 0
    assert "--meters" in capsys.readouterr().out


def test_the_command_starts_without_loading_spark_kafka_or_duckdb() -> None:
    code = (
        "import sys; from pipelines.cli.main import build_parser; build_parser();"
        "print([m for m in ('pyspark.sql', 'kafka', 'duckdb', 'pandas', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"
