"""The stages over readings that are all there: files and the archive. Polars, no JVM."""
