"""Kafka as gridwatch reaches it: options of the clients, records in and out, topics."""
