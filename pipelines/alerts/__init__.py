"""The alerts: members of one consumer group that judge each reading within milliseconds, and publish what they find."""
