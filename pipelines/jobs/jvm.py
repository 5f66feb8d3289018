"""The JVM behind a session: which process it is, whether it answers, and its end."""

from __future__ import annotations

from typing import Any

from pyspark.sql import SparkSession

from pipelines.jobs.ending import JVM_ENDS


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


def kill_jvm(spark: SparkSession) -> None:
    """Kill a JVM that plain python has started; under spark-submit it is our parent and ends with us."""
    process: Any = getattr(spark.sparkContext._gateway, "proc", None)
    if process is not None:
        process.kill()
