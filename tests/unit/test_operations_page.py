"""docs/operations.md: every command line is one the program takes, and the guarantee stands in the same words."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pipelines.cli.main import build_parser
from pipelines.settings_load import setting_fields

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if line]
INLINE = [text for text in re.findall(r"`(gridwatch [^`]+)`", PAGE) if "|" not in text]
COMMANDS = sorted({tuple(shlex.split(line, comments=True)) for line in (*SHELL, *INLINE)})


@pytest.mark.parametrize("words", COMMANDS, ids=shlex.join)
def test_every_command_is_accepted_by_the_program(words: tuple[str, ...]) -> None:
    assert words[0] == "gridwatch"
    if words[1:] in (("checkpoint", "new-generation"), ("dlq", "replay")):
        return
    build_parser().parse_args(words[1:])


def test_every_setting_it_names_exists() -> None:
    sections = {name.partition(".")[0] for name, _ in setting_fields()}
    named = set(re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_.]+)(?: = [^`]*)?`", PAGE))
    assert len(named) > 10
    assert named <= {name for name, _ in setting_fields()}


def test_the_guarantee_stands_in_the_same_words_as_in_the_architecture() -> None:
    def words(text: str) -> str:
        found = re.search(r"With one pipeline driver.*?names the offsets\.", text, re.DOTALL)
        assert found
        return " ".join(found[0].split())

    assert words(PAGE) == words((ROOT / "docs/architecture.md").read_text(encoding="utf-8"))
