"""One zip of all our Python and conf files, for `spark-submit --py-files`.

`python -m pipelines.package dist/gridwatch.zip` writes it. A zip, not a wheel: Spark imports a wheel on the
driver and fails on the executors.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from pipelines.errors import GridwatchError, SettingsError

PACKAGES = ("pipelines", "generator")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can hold; the same for every file, so that equal sources give equal bytes."""


def write_package(target: Path) -> list[str]:
    """Write `pipelines/`, `generator/` and `conf/` of this checkout or installation; returns the zip's names.

    The same sources give the same bytes. Only Python files and files of `conf/` go in: no caches, no hidden
    files. An older zip is replaced in one step. Raises SettingsError when it cannot be written, or when we
    run from a zip.
    """
    members = dict(sorted(_members()))
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name, path in members.items():
                archive.writestr(_entry(name), path.read_bytes())
        partial.replace(target)
    except OSError as error:
        raise SettingsError(f"{target}: {error.strerror}; name a file in a folder you may write") from None
    return list(members)


def _members() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        folder = _folder_of(package)
        for path in folder.rglob("*.py"):
            yield f"{package}/{path.relative_to(folder).as_posix()}", path
    conf = _conf_folder()
    for path in conf.rglob("*"):
        name = path.relative_to(conf)
        if path.is_file() and not any(part.startswith((".", "__")) for part in name.parts):
            yield f"conf/{name.as_posix()}", path


def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    folder = Path(spec.origin).parent if spec and spec.origin else Path(package)
    if not folder.is_dir():
        action = "run this in a checkout or an installation"
        raise SettingsError(f"package {package} is no folder ({folder}): {action}")
    return folder


def _conf_folder() -> Path:
    """The copy inside an installed wheel, else the folder beside the package; never GRIDWATCH_CONF_DIR."""
    package = _folder_of("pipelines")
    installed = package / "_conf"
    return installed if installed.is_dir() else package.parent / "conf"


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, wherever it is written
    entry.external_attr = 0o644 << 16
    return entry


def main(argv: Sequence[str] | None = None) -> int:
    """Write the zip and say what it holds."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.package", description=write_package.__doc__)
    parser.add_argument("target", metavar="FILE", type=Path, help="such as dist/gridwatch.zip")
    target = parser.parse_args(argv).target
    try:
        names = write_package(target)
    except GridwatchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stderr.write(f"wrote {target}: {len(names)} files, {target.stat().st_size // 1024} KiB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
