"""The only place that builds a SparkSession, and what must stand before its JVM starts."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from pipelines.conf_files import conf_folder_for
from pipelines.local.java import require_java
from pipelines.local.jars import cache_dir
from pipelines.settings import Settings, Store

CONF_FILES = ("spark-defaults.conf", "log4j2.properties", "fairscheduler.xml")


def prepare_environment() -> None:
    """Point Spark at our conf folder and at this interpreter, unless spark-submit has already done so.

    Spark's workers otherwise take `python3` from PATH, which may be another version.
    """
    os.environ.setdefault("SPARK_CONF_DIR", str(conf_folder_for(*CONF_FILES)))
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)


def build_session(settings: Settings, *, app_name: str = "gridwatch") -> SparkSession:
    """The session of a job; under spark-submit the one it prepared, with our store settings added.

    Downloads the jars named in `conf/spark-defaults.conf` into the cache on first use.
    Raises InfrastructureUnavailable when Java is missing.
    """
    _think_in_utc()
    builder = SparkSession.builder.appName(app_name)
    if not _under_spark_submit():
        require_java()
        prepare_environment()
        builder = (
            builder.master(settings.pipeline.master)
            .config("spark.driver.memory", settings.pipeline.driver_memory)
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.jars.ivy", str(cache_dir() / "ivy-spark"))
            .config("spark.driver.extraJavaOptions", _java_options())
        )
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    _reach_store(spark, settings.store)
    return spark


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
    options = {"endpoint.region": store.region, "path.style.access": str(store.path_style).lower()}
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


def _java_options() -> str:
    log_config = Path(os.environ["SPARK_CONF_DIR"]) / "log4j2.properties"
    return f"-Dlog4j2.configurationFile={log_config} -XX:+UseParallelGC -XX:-UsePerfData -XX:-DontCompileHugeMethods -XX:MetaspaceSize=256m"


if __name__ == "__main__":
    build_session(Settings(), app_name="gridwatch-prefetch").stop()
