"""gridwatch: meter readings from Kafka to anomalies, incidents and Delta tables."""
