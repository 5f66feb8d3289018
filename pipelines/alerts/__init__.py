"""The alerts: members of one consumer group that judge each reading within milliseconds, and publish what they find."""

READY = "gridwatch alerts is judging"
"""Said once a member has joined its group; whoever started it waits for it."""
