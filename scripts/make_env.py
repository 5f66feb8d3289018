"""Write `.env` for docker compose from `.env.example`: every empty value becomes a random secret.

Standard library only: `make env` needs no installed gridwatch. An existing `.env` is never touched.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path


def filled(template: str) -> str:
    """The template with a random secret after every `NAME=` that has no value.

    >>> filled("# a comment\\nPORT=9000\\n")
    '# a comment\\nPORT=9000\\n'
    >>> len(filled("SECRET=\\n"))
    48
    """
    return "".join(f"{_filled_line(line)}\n" for line in template.splitlines())


def _filled_line(line: str) -> str:
    is_empty = line.endswith("=") and not line.startswith("#")
    return line + secrets.token_hex(20) if is_empty else line


def main(folder: Path) -> int:
    """Write the file, readable by its owner only; 1 when it is there already."""
    target = folder / ".env"
    content = filled((folder / ".env.example").read_text(encoding="utf-8"))
    try:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        sys.stderr.write(f"{target} exists and stays as it is: move it away to get new secrets\n")
        return 1
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(content)
    sys.stderr.write(f"{target} written with new random secrets\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[1]))
