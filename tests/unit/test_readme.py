"""README and the pages beside it: what they tell a user to type and to open is there."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from generator.options import parse as parse_generator
from pipelines.cli.main import build_parser
from pipelines.lake_sql import open_lake, run_sql
from pipelines.settings import Settings
from pipelines.settings_load import known_environment_names, load_settings
from pipelines.small_tables import create_tables

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES: tuple[str, ...] = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md", "docs/api.md")
PAGES += ("docs/operations.md", "docs/runbook.md", "docs/downstream.md")
PAGES += tuple(f"docs/adr/{path.name}" for path in sorted((ROOT / "docs" / "adr").glob("*.md")))

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!https?://)([^)#]+)\)")
OURS = re.compile(r"(pipelines|generator|conf|docs|examples|tests|scripts|\.ci)/[\w./-]*")
SHELL_WORDS = {"|", "&&", ";", ">"}
SECRETS = {
    "GRIDWATCH_KAFKA__SASL_PASSWORD": "of-its-own",
    "GRIDWATCH_STORE__ACCESS_KEY": "its-user",
    "GRIDWATCH_STORE__SECRET_KEY": "of-its-own",
}
MACHINE = re.compile(r"(?<![\w.])/(home|root|tmp|work|Users)/|--index|://[^\s/]*(pypi|mirror)")


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(text) if kind == language]


def typed_lines() -> Iterator[list[str]]:
    """Words of every command line: those of the shell blocks, and `gridwatch ...` within the text."""
    for body in blocks(README, "sh"):
        for line in body.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words
    for text in INLINE.findall(BLOCK.sub("", README)):
        if text.startswith(("gridwatch ", "make ", "python -m ")):
            yield shlex.split(text)


LINES = list(typed_lines())
GRIDWATCH = sorted({tuple(words[1:]) for words in LINES if words[0] == "gridwatch"})
QUERIES = sorted(
    {
        words[-1]
        for words in GRIDWATCH
        if words[0] == "sql" and "..." not in words[-1] and not words[-1].startswith("--")
    }
)


def parsed(words: tuple[str, ...]) -> argparse.Namespace:
    return build_parser().parse_args(words)


@pytest.mark.parametrize("words", GRIDWATCH, ids=shlex.join)
def test_every_command_line_is_accepted_by_the_program(words: tuple[str, ...]) -> None:
    assert not SHELL_WORDS & set(words)
    args = parsed(words)
    if words[0] == "generate" and len(words) > 1:
        parse_generator(args.rest, {"GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9092"})


@pytest.mark.parametrize("words", [w for w in GRIDWATCH if "--set" in w], ids=shlex.join)
def test_every_set_names_a_setting(words: tuple[str, ...]) -> None:
    load_settings(assignments=parsed(words).assignments, environment={})


def test_every_command_of_the_program_is_in_the_readme() -> None:
    commands = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert {words[0] for words in GRIDWATCH} == set(commands)


def test_two_commands_set_up_and_run_everything() -> None:
    first = blocks(README, "sh")[0]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", page("Makefile"), flags=re.MULTILINE))
    named = {words[1] for words in LINES if words[0] == "make"}
    named |= set(re.findall(r"(?:`|^)make ([a-z-]+)", page("CONTRIBUTING.md"), flags=re.MULTILINE))
    assert {"demo", "test", "check"} <= named <= targets


def test_every_module_that_is_run_exists() -> None:
    modules = {words[2] for words in LINES if words[:2] == ["python", "-m"]}
    assert modules
    assert not [name for name in sorted(modules) if find_spec(name) is None]


@pytest.mark.parametrize("name", PAGES)
def test_every_file_and_link_exists(name: str) -> None:
    text = page(name)
    links = [(ROOT / name).parent / target for target in LINK.findall(text)]
    words = [word.rstrip(".,:;") for piece in INLINE.findall(text) for word in piece.split()]
    files = [ROOT / word for word in words if OURS.fullmatch(word)]
    assert not [str(path) for path in links + files if not path.exists()]


def test_every_environment_variable_is_one_of_ours() -> None:
    named = {name for text in map(page, PAGES) for name in re.findall(r"GRIDWATCH_\w*[A-Z]\b(?!__\*)", text)}
    assert named
    named.discard("GRIDWATCH_KAFKA")  # GRIDWATCH_KAFKA__* stands for all of that section
    assert named <= known_environment_names()


def test_the_settings_file_is_accepted(tmp_path: Path) -> None:
    (example,) = blocks(README, "toml")
    file = tmp_path / "my.toml"
    file.write_text(example, encoding="utf-8")
    settings = load_settings(file, environment=SECRETS).settings
    assert settings.lake.root == "s3a://grid/lake"
    assert settings.kafka.security_protocol == "SASL_SSL"
    assert (ROOT / str(settings.lake.fleet)).is_file()


@pytest.mark.parametrize("secret", SECRETS)
def test_every_secret_is_exported_and_in_no_example_file(secret: str) -> None:
    assert f"export {secret}=" in README
    assert secret.rpartition("__")[2].lower() not in blocks(README, "toml")[0]


def test_every_query_runs_over_empty_tables(tmp_path: Path) -> None:
    settings = Settings.model_validate({"lake": {"root": str(tmp_path / "lake")}})
    create_tables(settings)
    assert len(QUERIES) >= 5
    with open_lake(settings) as lake:
        for query in QUERIES:
            run_sql(lake, query).fetchall()


@pytest.mark.parametrize("number", range(len(blocks(README, "python"))))
def test_every_name_that_a_notebook_imports_exists(number: int) -> None:
    tree = ast.parse(blocks(README, "python")[number])
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        module = importlib.import_module(str(node.module))
        assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]


API = page("docs/api.md")
SECTIONS = {section.splitlines()[0]: section for section in re.split(r"^##? ", API, flags=re.MULTILINE)[1:]}


@pytest.mark.parametrize("title", SECTIONS)
def test_every_function_of_the_api_page_exists_with_its_arguments(title: str) -> None:
    """A line `name(arguments)` of a code block is a function of a module that the section names."""
    modules = [importlib.import_module(name) for name in modules_named(SECTIONS[title])]
    for name, arguments in signatures(SECTIONS[title]):
        found = [getattr(module, name) for module in modules if hasattr(module, name)]
        assert found, f"{name} is in none of the modules of its section"
        parameters = inspect.signature(found[0]).parameters
        needed = [key for key, value in parameters.items() if value.default is value.empty]
        assert set(needed) <= set(arguments) <= set(parameters), name


def modules_named(section: str) -> list[str]:
    """Every `pipelines.x` that is a module."""
    names = re.findall(r"`(pipelines(?:\.\w+)+)`", section)
    return [name for name in names if not name.endswith("TABLES") and find_spec(name)]


def signatures(section: str) -> Iterator[tuple[str, list[str]]]:
    for line in "\n".join(blocks(section, "python")).splitlines():
        if re.match(r"\w+\(", line):
            (function,) = ast.parse(f"def {line.partition('#')[0].strip()}: ...").body
            assert isinstance(function, ast.FunctionDef)
            arguments = [*function.args.args, *function.args.kwonlyargs]
            yield function.name, [argument.arg for argument in arguments]


@pytest.mark.parametrize("name", [*PAGES, "conf/constraints.txt"])
def test_no_page_names_a_folder_of_some_machine_or_a_package_index(name: str) -> None:
    assert not MACHINE.search(page(name))
