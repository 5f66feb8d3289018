"""The Spark driver: session, queries, supervision."""

import os

# Polars reads it when it is first imported; beside it the driver runs Java and its own threads.
os.environ.setdefault("POLARS_MAX_THREADS", "2")
