"""The JVM behind a session: which process it is, whether it answers, and its end."""

from __future__ import annotations

import subprocess
from typing import Any

from pyspark.sql import SparkSession

from pipelines.errors import InfrastructureUnavailable
from pipelines.jobs.ending import JVM_ENDS
from pipelines.jobs.failures import OutOfMemory

_OUT_OF_MEMORY = 3
"""Exit code of a JVM with -XX:+ExitOnOutOfMemoryError (pipelines/session.py)."""


def jvm_pid(spark: SparkSession) -> int:
    """Process id of the JVM: our child when plain python has started it, our parent under spark-submit."""
    jvm: Any = spark.sparkContext._jvm
    return int(jvm.java.lang.ProcessHandle.current().pid())


def answers(spark: SparkSession) -> bool:
    """Whether the session can still be used. Blocks as long as the JVM hangs."""
    try:
        return not spark.sparkContext._jsc.sc().isStopped()
    except JVM_ENDS:
        return False


def why_gone(spark: SparkSession, error: Exception) -> InfrastructureUnavailable:
    """What a call that found no JVM any more (`error`) means for whoever starts the job again."""
    process: Any = getattr(spark.sparkContext._gateway, "proc", None)
    try:  # its sockets close a moment before it has ended
        code = None if process is None else process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        code = None
    if code == _OUT_OF_MEMORY:
        return OutOfMemory("Java ran out of memory and was ended")
    return InfrastructureUnavailable(f"Spark does not answer any more: {type(error).__name__}")


def kill_jvm(spark: SparkSession) -> None:
    """Kill a JVM that plain python has started; under spark-submit it is our parent and ends with us."""
    process: Any = getattr(spark.sparkContext._gateway, "proc", None)
    if process is not None:
        process.kill()
