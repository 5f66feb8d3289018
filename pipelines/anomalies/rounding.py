"""Numbers as texts of findings show them: halves round away from zero."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal

_HALF_UP = Context(prec=400, rounding=ROUND_HALF_UP)
"""As many digits as a double may have before its point."""
_FINE = 1e9
"""Below it a double and its shortest decimal form agree in all digits that matter, but for a half."""


def tenths(value: float) -> str:
    """A number with one digit behind the point.

    >>> tenths(0.25), tenths(-0.25), tenths(0.0), tenths(-0.0), tenths(1e16 / 3)
    ('0.3', '-0.3', '0.0', '-0.0', '3333333333333333.5')
    """
    return rounded(value, 1)


def signed_tenths(value: float) -> str:
    """The same with its sign.

    >>> signed_tenths(6.0), signed_tenths(-0.04)
    ('+6.0', '-0.0')
    """
    text = tenths(value)
    return text if text[0] == "-" else f"+{text}"


def rounded(value: float, digits: int) -> str:
    """A number with so many digits behind the point; halves of its shortest decimal form round away from zero.

    >>> rounded(2.675, 2), rounded(2.5, 0), rounded(-2.5, 0)
    ('2.68', '3', '-3')
    """
    if -_FINE < value < _FINE and f"{value:.{digits + 1}f}"[-1] != "5":
        return f"{value:.{digits}f}"
    return str(Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), context=_HALF_UP))
