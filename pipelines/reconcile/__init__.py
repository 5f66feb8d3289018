"""Kafka compared with the tables, and rejected records sent again."""
