"""Loads every module of rows, so that the registry is complete."""

from __future__ import annotations

import importlib

MODULES = ("kill", "batches", "checkpoint", "outage", "input", "alerts", "limits", "brokers", "store_checkpoint")


def load() -> None:
    """Import them."""
    for name in MODULES:
        importlib.import_module(f"tests.faults.rows_{name}")
