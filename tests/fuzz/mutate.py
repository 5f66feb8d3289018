"""Inputs for the decoder: documents from a grammar, and mutations of those whose outcome was new."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.factories import NOON_MS
from tests.fuzz.documents import make_documents

Value = bytes | None

_TOKENS = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u0000", b"\\ud83d", b"\\udc00", b"null", b"true", b"NaN",
    b"-", b"e", b"E+", b".", b"0", b"9" * 20, b"1e400", b"1e-400", b" ", b"\n", b"\t", b"\r", b"\x00", b"\x0b",
    b"\xc2\xa0", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80",
    b"/*", b"*/",
    b"//", b"#", b"'", b'"meterId"', b'"timestamp"', b'"voltage"', b'"current"', b'"temperature"', b'"status"', b'"x":',
    b'":', b'":"',
    b"-0", b"-0.0", b"1000000", b"1000000.0000000001", b"-273", b"-273.0000000000001", str(NOON_MS).encode(),
    str(2**63).encode(), str(-(2**63) - 1).encode(), b"253402300799999", b"253402300800000", b"},{", b"],[", b'"}{"',
)  # fmt: skip
_LONGEST = 2000


class Fuzzer:
    """Makes batches of inputs from a seed; `keep` feeds back what was worth mutating further.

    Two in five come from the grammar of `tests.fuzz.documents`, the rest are mutations of the corpus.
    """

    def __init__(self, seed: int, *, largest_corpus: int = 20_000) -> None:
        self._rng = random.Random(seed)
        self._largest = largest_corpus
        self.corpus: list[bytes] = [v for v in make_documents(seed, 2000) if v]

    def batch(self, count: int) -> list[Value]:
        """The next inputs."""
        fresh = 2 * count // 5
        made = make_documents(self._rng.randrange(2**32), fresh)
        made += [self._mutated() for _ in range(count - fresh)]
        return made

    def keep(self, value: Value) -> None:
        """Take an input into the corpus; a full one forgets another at random."""
        if not value or len(value) > _LONGEST:
            return
        if len(self.corpus) < self._largest:
            self.corpus.append(value)
        else:
            self.corpus[self._rng.randrange(self._largest)] = value

    def _mutated(self) -> bytes:
        value = self._rng.choice(self.corpus)
        for _ in range(self._rng.choice((1, 1, 1, 2, 2, 3, 5))):
            value = self._rng.choice(_MUTATIONS)(value, self._rng, self.corpus)
        return value[:_LONGEST]


def _flip(value: bytes, rng: random.Random, corpus: list[bytes]) -> bytes:
    if not value:
        return value
    at = rng.randrange(len(value))
    return value[:at] + bytes([value[at] ^ (1 << rng.randrange(8))]) + value[at + 1 :]


def _insert(value: bytes, rng: random.Random, corpus: list[bytes]) -> bytes:
    at = rng.randrange(len(value) + 1)
    return value[:at] + rng.choice(_TOKENS) + value[at:]


def _replace(value: bytes, rng: random.Random, corpus: list[bytes]) -> bytes:
    at, end = _span(value, rng)
    return value[:at] + rng.choice(_TOKENS) + value[end:]


def _delete(value: bytes, rng: random.Random, corpus: list[bytes]) -> bytes:
    at, end = _span(value, rng)
    return value[:at] + value[end:]


def _repeat(value: bytes, rng: random.Random, corpus: list[bytes]) -> bytes:
    at, end = _span(value, rng)
    return value[:end] + value[at:end] + value[end:]


def _splice(value: bytes, rng: random.Random, corpus: list[bytes]) -> bytes:
    other = rng.choice(corpus)
    return value[: rng.randrange(len(value) + 1)] + other[rng.randrange(len(other) + 1) :]


def _change_digit(value: bytes, rng: random.Random, corpus: list[bytes]) -> bytes:
    digits = [at for at, byte in enumerate(value) if 48 <= byte <= 57]
    if not digits:
        return value
    at = rng.choice(digits)
    return value[:at] + rng.choice((b"0", b"9", b"-", b".", b"e", b"00", b"5")) + value[at + 1 :]


def _swap_values(value: bytes, rng: random.Random, corpus: list[bytes]) -> bytes:
    parts = value.split(b",")
    rng.shuffle(parts)
    return b",".join(parts)


def _span(value: bytes, rng: random.Random) -> tuple[int, int]:
    at = rng.randrange(len(value) + 1)
    return at, min(len(value), at + rng.choice((1, 1, 2, 3, 8, 30)))


Mutation = Callable[[bytes, random.Random, list[bytes]], bytes]
_MUTATIONS: tuple[Mutation, ...] = (
    _flip, _insert, _insert, _replace, _replace, _delete, _repeat, _splice, _change_digit, _swap_values,
)  # fmt: skip
