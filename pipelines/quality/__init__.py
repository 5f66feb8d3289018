"""The data quality gate: what is expected of a day of the archive, measured by SQL and judged by Great Expectations.

`suites` says what is expected, `facts_*` measure a day, `judge` runs Great Expectations, `gate` ties them together.
"""
