"""Every exception gridwatch raises on purpose, under one root, with the exit code it ends the process with."""

from __future__ import annotations


class GridwatchError(Exception):
    """Root of our errors: one line that says what, the value, what is allowed and what to do."""

    exit_code = 1


class SettingsError(GridwatchError):
    """A setting or an argument is unknown, contradictory or out of its range."""

    exit_code = 2


class DataRefused(GridwatchError):
    """The data or the checkpoint does not fit this run: going on would lose or mix records."""

    exit_code = 3


class InfrastructureUnavailable(GridwatchError):
    """Kafka, the object store or a program on this machine cannot be reached."""

    exit_code = 4


class RecordRefused(GridwatchError):
    """Kafka does not take a record as it is, whoever sends it and whenever."""


class MemberFenced(GridwatchError):
    """Another member of a consumer group has taken over under the same name: not to be started again."""

    exit_code = 5
