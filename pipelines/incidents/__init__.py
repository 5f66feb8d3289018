"""Stage 3: anomalies, window ends and operators' actions to incidents; one `update` for the stream and recompute."""
