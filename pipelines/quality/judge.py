"""Great Expectations over the frames: every expectation judged, data docs written.

Only here it is imported: that takes seconds, and it is an extra. It runs on pandas in memory and sends nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from pipelines.errors import SettingsError
from pipelines.places import no_folder
from pipelines.quality.checks import Check, Suite
from pipelines.quality.measure import Frames

INSTALL = "pip install -c conf/constraints.txt -e '.[quality]'"
_EXAMPLES = 10
_SITE = "gridwatch"
_SEVERITY = {"fail": "critical", "warn": "warning"}


@dataclass(frozen=True)
class Outcome:
    """One expectation judged."""

    suite: str
    check: Check
    success: bool
    rows: int | None
    unexpected: int | None
    observed: Any
    examples: list[dict[str, Any]]
    error: str | None


def require_library() -> None:
    """Raise SettingsError with the install command when the extra is missing."""
    if find_spec("great_expectations") is None:
        raise SettingsError(f"gridwatch quality needs Great Expectations, which is not installed: {INSTALL}")


def judge(frames: Frames, suites: Sequence[Suite], docs: Path | None) -> list[Outcome]:
    """Judge every suite on its frame; `docs` is the folder of the HTML data docs."""
    gx = _library()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("gridwatch")
    outcomes = []
    for suite in suites:
        batch = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("day")
        expected = context.suites.add(gx.ExpectationSuite(name=suite.name))
        for check in suite.checks:
            expected.add_expectation(_expectation(gx, check))
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(name=suite.name, data=batch, suite=expected)
        )
        result = definition.run(
            batch_parameters={"dataframe": frames[suite.name]},
            result_format={
                "result_format": "SUMMARY",
                "unexpected_index_column_names": list(suite.key),
                "partial_unexpected_count": _EXAMPLES,
            },
        )
        checks = {check.name: check for check in suite.checks}
        outcomes += [_outcome(suite.name, checks, one) for one in result.results]
    if docs is not None:
        _write_docs(context, docs)
    return outcomes


def _library() -> ModuleType:
    require_library()
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    return great_expectations


def _expectation(gx: ModuleType, check: Check) -> Any:
    import great_expectations.expectations as kinds

    return getattr(kinds, check.kind)(
        **check.arguments,
        description=f"{check.name}: {check.meaning}",
        severity=_SEVERITY[check.severity],
        meta={"name": check.name, "severity": check.severity, "meaning": check.meaning},
    )


def _outcome(suite: str, checks: dict[str, Check], result: Any) -> Outcome:
    found = result.result
    return Outcome(
        suite=suite,
        check=checks[result.expectation_config.meta["name"]],
        success=bool(result.success),
        rows=found.get("element_count"),
        unexpected=found.get("unexpected_count"),
        observed=found.get("observed_value"),
        examples=list(found.get("partial_unexpected_index_list") or [])[:_EXAMPLES],
        error=_error(result.exception_info),
    )


def _error(info: Any) -> str | None:
    """The first exception met while judging, in one line."""
    for one in [info, *(v for v in (info or {}).values() if isinstance(v, dict))]:
        if one and one.get("raised_exception"):
            return str(one.get("exception_message") or "unknown").strip().splitlines()[0]
    return None


def _write_docs(context: Any, folder: Path) -> None:
    site = {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.absolute())},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        context.add_data_docs_site(site_name=_SITE, site_config=site)
        context.build_data_docs(site_names=[_SITE])
    except OSError as error:
        raise no_folder("--report-dir", folder, error) from None
