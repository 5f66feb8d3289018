"""What a failure inside Spark means: lost data, a part that does not answer, or something else."""

from __future__ import annotations

import re

from pipelines.errors import DataRefused, GridwatchError, InfrastructureUnavailable

_LOSS = (
    "OffsetOutOfRange",
    "KAFKA_DATA_LOSS",
    "data loss",
    "data may be lost",
    "STREAMING_CHECKPOINT",
    "STATE_STORE_KEY_",
    "STATE_STORE_VALUE_",
    "STATE_STORE_CHECKPOINT",
    "CANNOT_LOAD_STATE_STORE",
    "STATEFUL_OPERATOR_NOT_MATCH",
    "CHECKPOINT_FILE_CHECKSUM",
    "CONCURRENT_STREAM_LOG_UPDATE",
    "DELTA_MISSING_FILES",
    "DELTA_SCHEMA_CHANGED",
    "DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE",
)
_UNREACHABLE = (
    "TimeoutException",
    "Connection refused",
    "Connection reset",
    "ConnectException",
    "DisconnectException",
    "SdkClientException",
    "AWSClientIOException",
    "AWSServiceIOException",
    "UnknownHost",
    "No route to host",
    "Generic S3 error",
    "error sending request",
    "NoBrokersAvailable",
    "InfrastructureUnavailable",
)
_DENIED = (
    "AccessDenied",
    "lacked the necessary privileges",
    "TopicAuthorizationException",
    "GroupAuthorizationException",
    "ClusterAuthorizationException",
)
_FULL = "No space left on device"
_PASSING = (*_UNREACHABLE, *_DENIED, _FULL, "OUT_OF_MEMORY", "OutOfMemoryError")
"""Why a state can fail to load though nothing is lost."""
_STATE = ("STATE_STORE", "STATEFUL_OPERATOR", "CHECKPOINT_FILE_CHECKSUM")
_PYTHON_ERROR = re.compile(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)")
_SECRET = re.compile(r"(password=\"?)[^\";\s]+", re.IGNORECASE)


class OutOfMemory(InfrastructureUnavailable):
    """Java has too little heap. What it does afterwards is anybody's guess, so it must not go on."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; raise pipeline.driver_memory, or lower pipeline.max_offsets_per_trigger")


def explain_failure(text: str, what: str) -> GridwatchError:
    """The error class, and so the exit code, that fits a failure inside Spark."""
    line = root_cause(text)
    signs = {sign for sign in _LOSS if sign in text}
    if signs == {"CANNOT_LOAD_STATE_STORE"} and any(sign in text for sign in _PASSING):
        signs = set()
    if signs:
        way = (
            "restore checkpoint and tables of one moment, or go on with `gridwatch checkpoint new-generation"
            " --from-offsets tables`"
            if any(sign in text for sign in _STATE)
            else "`gridwatch doctor` names the way out"
        )
        return DataRefused(f"{what} stopped, records it needs are gone or do not fit: {line}; {way}")
    if "OutOfMemoryError" in text:
        return OutOfMemory(f"{what} stopped, Java ran out of memory: {line}")
    if _FULL in text:
        return InfrastructureUnavailable(f"{what} stopped, a disk is full: {line}; make room for checkpoint and tables")
    if any(sign in text for sign in _DENIED):
        return InfrastructureUnavailable(
            f"{what} stopped, Kafka or the store refuses access: {line}; `gridwatch check` names what is missing"
        )
    if any(sign in text for sign in _UNREACHABLE):
        return InfrastructureUnavailable(f"{what} stopped, Kafka or the store does not answer: {line}")
    return GridwatchError(f"{what} stopped: {line}")


def root_cause(text: str) -> str:
    """The innermost cause of a stack trace, in one line; of an error in our own Python that one's.

    >>> root_cause("[X] Traceback (most recent call last):\\n  File a\\nOSError: no\\n\\n\\tat py4j.A")
    'OSError: no'
    """
    causes = [line for line in text.splitlines() if line.startswith("Caused by: ")]
    line = (causes[-1] if causes else text.strip().split("\n")[0]).removeprefix("Caused by: ")
    if line.endswith("Traceback (most recent call last):") and (raised := _PYTHON_ERROR.findall(text)):
        line = raised[-1]
    return _SECRET.sub(r"\1********", line)[:400]
