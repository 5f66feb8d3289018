"""Incidents leave the system: a program that follows the topic incidents and tells webhooks and an Alertmanager.

It starts no JVM, touches no table and can be down for as long as it likes: what was delivered is remembered in Kafka.
"""
