"""Simulated smart meters with labelled faults, sent to Kafka or written to files."""
