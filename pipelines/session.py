"""The only place that builds a SparkSession, and what must stand before its JVM starts."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Literal

from pyspark.sql import SparkSession

from pipelines.addresses import is_store
from pipelines.conf_files import conf_folder_for
from pipelines.heap import heap_bytes
from pipelines.local.cache import cache_dir
from pipelines.local.java import require_java
from pipelines.local.ports import LOOPBACK
from pipelines.local.spark_kit import FOLDER_CHECKPOINTS, SparkKit, spark_defaults, spark_kit
from pipelines.settings import Settings, Store
from pipelines.store_tls import trust_store_ca

CONF_FILES = ("spark-defaults.conf", "log4j2.properties", "fairscheduler.xml")


_SMALL_HEAP = 2 << 30
"""Up to here one thread collects garbage in milliseconds, and gives memory back: 0.6 GB less at 10,000 readings/s."""


def build_session(
    settings: Settings,
    *,
    app_name: str = "gridwatch",
    kit: SparkKit | Literal["auto"] | None = "auto",
    jvm_options: str = "",
) -> SparkSession:
    """The session of a job; under spark-submit the one it prepared, with our store settings added.

    Otherwise it is made here, with what `conf/spark-defaults.conf` says. A local master uses the kit of
    `pipelines.local.spark_kit` ("auto"), another one, or `kit=None`, resolves the packages at each start.
    Raises InfrastructureUnavailable when Java is missing or the jars cannot be downloaded.
    """
    _think_in_utc()
    builder = SparkSession.builder.appName(app_name)
    if not _under_spark_submit():
        if kit == "auto":
            kit = spark_kit() if settings.pipeline.master.startswith("local") else None
        for name, value in _local_conf(settings, kit, f"{settings.pipeline.jvm_options} {jvm_options}").items():
            builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    _reach_store(spark, settings.store)
    trust_store_ca(spark, settings.store)
    return spark


def end_jvm(spark: SparkSession) -> None:
    """Stop the session and wait until its JVM has exited."""
    gateway: Any = spark.sparkContext._gateway
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


def _local_conf(settings: Settings, kit: SparkKit | None, jvm_options: str) -> dict[str, str]:
    """Configuration of a session that plain python starts. Sets the environment its JVM reads.

    Spark's workers otherwise take `python3` from PATH, which may be another version. A JVM that has run out of memory
    once ends: Spark goes on after some such errors, ever slower. Under spark-submit Java's exit code would be ours.
    """
    require_java()
    folder = conf_folder_for(*CONF_FILES)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", LOOPBACK)
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # of the JVM's native memory, which RocksDB takes from many threads
    os.environ["SPARK_CONF_DIR"] = str(kit.empty if kit else folder)
    defaults = spark_defaults()
    collector = "Serial" if heap_bytes(settings.pipeline.driver_memory) <= _SMALL_HEAP else "Parallel"
    options = [
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'} -XX:+Use{collector}GC -XX:-UsePerfData",
        "-XX:+ExitOnOutOfMemoryError",
        defaults["spark.driver.extraJavaOptions"],
        kit.flags() if kit else "",
        jvm_options,
    ]
    return {
        **defaults,
        "spark.master": settings.pipeline.master,
        "spark.driver.memory": settings.pipeline.driver_memory,
        "spark.driver.host": LOOPBACK,
        "spark.driver.bindAddress": LOOPBACK,
        "spark.scheduler.allocation.file": str(folder / "fairscheduler.xml"),
        "spark.jars.ivy": str(cache_dir() / "ivy-spark"),
        "spark.driver.extraJavaOptions": " ".join(" ".join(options).split()),
        **(kit.conf() if kit else {}),
        **(FOLDER_CHECKPOINTS if kit and not is_store(settings.pipeline.checkpoint) else {}),
    }


def _reach_store(spark: SparkSession, store: Store) -> None:
    """Tell the S3A connector about the object store.

    Written to the Hadoop configuration, not to Spark's: it works under spark-submit, reaches the
    executors, and no secret stands in the session's configuration, its UI or an event log.
    """
    hadoop: Any = spark.sparkContext._jsc.hadoopConfiguration()
    for name, value in store_options(store).items():
        hadoop.set(f"fs.s3a.{name}", value)


def store_options(store: Store) -> dict[str, str]:
    """S3A options without their prefix `fs.s3a.`; holds the secrets in clear."""
    options = {
        "endpoint.region": store.region,
        "path.style.access": str(store.path_style).lower(),
        "multipart.purge": "true",
        "multipart.purge.age": str(int(store.uploads_after)),
    }
    if store.endpoint:
        options["endpoint"] = store.endpoint
        options["connection.ssl.enabled"] = str(store.endpoint.startswith("https")).lower()
    if store.access_key and store.secret_key:
        options["access.key"] = store.access_key.get_secret_value()
        options["secret.key"] = store.secret_key.get_secret_value()
        options["aws.credentials.provider"] = "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider"
    return options


def _think_in_utc() -> None:
    """Make the naive datetimes that PySpark hands out and takes mean UTC, wherever the driver stands."""
    os.environ["TZ"] = "UTC"
    time.tzset()


def _under_spark_submit() -> bool:
    return "PYSPARK_GATEWAY_PORT" in os.environ


if __name__ == "__main__":
    build_session(Settings(), app_name="gridwatch-prefetch").stop()
