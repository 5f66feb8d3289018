"""Whose checkpoint, tables and topics these are: the record of a run, its lock, and what refuses a mismatch."""
