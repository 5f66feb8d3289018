"""Errors of the generator and the exit codes they end with."""

from __future__ import annotations


class GeneratorError(Exception):
    """Root of every error the generator raises on purpose; the message is one line for a person."""

    exit_code = 1


class UsageError(GeneratorError):
    """Options that are illegal or contradict each other."""

    exit_code = 2

    def __init__(self, what: str, value: object, allowed: str, action: str) -> None:
        super().__init__(f"{what}: got {value}; allowed: {allowed}; {action}")


class InfrastructureError(GeneratorError):
    """A broker, a topic or a folder that cannot be reached."""

    exit_code = 4
