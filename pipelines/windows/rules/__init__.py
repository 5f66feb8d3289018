"""Rules that judge closed windows: each is a value over one row that `judge.measure` has put in its place."""
