"""Documents for the decoder from a seed: right, nearly right and noise; a fair share is valid."""

from __future__ import annotations

import random

from tests.factories import NOON_MS

OLDEST_MS = NOON_MS - 3650 * 86_400_000
_RIGHT = {
    "meterId": '"m1"',
    "timestamp": str(NOON_MS),
    "voltage": "230.1",
    "current": "5",
    "temperature": "20",
    "status": '"OK"',
}
_VALUES = (
    '"m1"',
    '"OK"',
    '""',
    '"a b"',
    '"}{"',
    r'"\u006d1"',
    r'"\\"',
    r'"\""',
    r'"\ud800"',
    '"x',
    "'m1'",
    '"mé"',
    '"a\nb"',
    '"m1\\n"',
    "230",
    "-1",
    "0",
    "-0",
    "2.3e2",
    "2E+2",
    "1e6",
    "1e7",
    "1e400",
    "-1e400",
    "-0.0",
    "NaN",
    "-Infinity",
    "INF",
    "01",
    "+1",
    ".5",
    "1.",
    "1e",
    "9" * 25,
    "0." + "1" * 40,
    str(NOON_MS),
    str(NOON_MS + 5000),
    str(NOON_MS + 5001),
    str(OLDEST_MS),
    str(OLDEST_MS - 1),
    f"{NOON_MS}.0",
    '"NaN"',
    '"Infinity"',
    '"230"',
    "null",
    "null",
    "true",
    "false",
    "nul",
    "NULL",
    "[]",
    "[1,{}]",
    "[1,]",
    "{}",
    '{"a":{"b":[]}}',
    '{"a":1,"a":2}',
    '{"status":null}',
    "",
    "{",
    "/**/1",
    "1 2",
)
_NAMES = (
    "voltage",
    "status",
    "status",
    "meterId",
    "Voltage",
    "x",
    "",
    r"st\u0061tus",
    "timestamp",
    'a"',
    "°",
    "current",
    "$",
    "a.b",
)
_SPACES = ("", "", "", "", " ", "\n", "\t", "\r", "\u00a0", "\x0b", "\x00")
_AROUND = (
    "",
    "",
    "",
    "",
    "",
    "",
    " ",
    "\r\n",
    "x",
    "{}",
    "}",
    "]",
    ",",
    "#",
    "\x00",
    "\ufeff",
    "null",
    "],[",
    '},"y":{',
)


def make_documents(seed: int, count: int) -> list[bytes | None]:
    """The values of `count` records."""
    rng = random.Random(seed)
    return [_noise(rng) if rng.random() < 0.05 else _document(rng) for _ in range(count)]


def _noise(rng: random.Random) -> bytes | None:
    return rng.choice(
        (None, rng.randbytes(rng.randrange(12)), rng.choice(_VALUES).encode(), rng.choice(_AROUND).encode())
    )


def _document(rng: random.Random) -> bytes:
    pairs = list(_RIGHT.items())
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        _disturb(pairs, rng)
    if rng.random() < 0.3:
        rng.shuffle(pairs)
    space = rng.choice(_SPACES) if rng.random() < 0.3 else ""
    text = "{" + ",".join(f'{space}"{name}"{space}:{value}' for name, value in pairs) + space + "}"
    if rng.random() < 0.2:
        text = rng.choice(_AROUND) + text + rng.choice(_AROUND)
    return _damaged(text.encode(), rng) if rng.random() < 0.1 else text.encode()


def _disturb(pairs: list[tuple[str, str]], rng: random.Random) -> None:
    value, what = rng.choice(_VALUES), rng.random()
    place = rng.randrange(len(pairs)) if pairs else 0
    if pairs and what < 0.2:
        del pairs[place]
    elif pairs and what < 0.6:
        pairs[place] = (pairs[place][0], value)
    elif pairs and what < 0.8:
        pairs.insert(place, (rng.choice(pairs)[0], rng.choice(("null", value, rng.choice(pairs)[1]))))
    else:
        pairs.insert(place, (rng.choice(_NAMES), value))


def _damaged(value: bytes, rng: random.Random) -> bytes:
    cut = rng.randrange(len(value) + 1)
    return value[:cut] + rng.randbytes(rng.randrange(3)) + value[cut + rng.randrange(3) :]
