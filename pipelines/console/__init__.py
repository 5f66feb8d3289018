"""The operator's console: one web page on loopback, fed from Kafka's topics and the tables."""
