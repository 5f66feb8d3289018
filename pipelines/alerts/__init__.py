"""Stage 1 once more, in milliseconds: the consumer that judges each reading as Kafka has it."""
