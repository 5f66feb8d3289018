"""What the jobs show of themselves to Prometheus.

`metrics` holds every family; `progress`, `lag`, `resources`, `grid` and `batches` fill them from what Spark, Kafka, the
machine and the small tables say anyway. Nothing here starts a Spark job, and nothing here can stop a query.
"""
