"""The hand-over between two real-time batches, rehearsed while readings are judged and nobody waits for it.

Spark plans a real-time query anew for each batch. Java runs a method slowly until it has run often: the second time the
plan of the alerts takes twice as long as the tenth (ADR 0007), and with a trigger of minutes the tenth is an hour away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from pipelines.jobs.context import Say
from pipelines.jobs.pace import Every

ROUNDS = 5
"""So many rehearsals, spread over the first batch: what more of them would save is less than they cost."""


class Rehearsal:
    """Plans what `build` gives, again and again, and runs nothing. `build`: the query over no rows of its source."""

    def __init__(self, build: Callable[[], DataFrame], trigger_s: float, say: Say) -> None:
        self._build = build
        self._frame: DataFrame | None = None
        self._say = say
        self._rounds = ROUNDS
        self._is_time = Every(trigger_s / (ROUNDS + 1))

    def step(self) -> None:
        """Rehearse if it is time and not all rounds are done. A rehearsal that fails is the last one."""
        if self._rounds and self._is_time():
            self._rounds -= 1
            try:
                self._frame = self._frame or self._build()
                write_code(self._frame)
            except (PySparkException, Py4JError) as error:
                self._rounds = 0
                self._say(f"hand-over not rehearsed: {str(error).splitlines()[0]}")


def write_code(frame: DataFrame) -> list[str]:
    """Optimise and plan a frame anew, as the start of a batch does; the source code of its stages, not compiled."""
    spark: Any = frame.sparkSession
    planned = spark.sparkContext._jvm.org.apache.spark.sql.classic.Dataset.ofRows(
        spark._jsparkSession, frame._jdf.queryExecution().analyzed()
    )
    stages = _stages(planned.queryExecution().executedPlan())
    return [str(stage.doCodeGen()._2().body()) for stage in stages]


def _stages(plan: Any) -> Iterator[Any]:
    if plan.getClass().getSimpleName() == "WholeStageCodegenExec":
        yield plan
    children = plan.children()
    for place in range(children.length()):
        yield from _stages(children.apply(place))
