"""Stage 1: a Kafka record becomes rows of `readings` or `rejected`, and findings of single readings."""
