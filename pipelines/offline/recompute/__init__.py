"""Late and corrected readings, as if they had come in time: what was stored without them, computed again."""
