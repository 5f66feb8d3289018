"""How good the detection is: alarms against labels, by the protocol of docs/detection.md. Pandas only, no Spark."""
