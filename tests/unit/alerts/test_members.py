"""Names of members: the first free number of the host, given back however its holder dies."""

from __future__ import annotations

import socket
from pathlib import Path

from pipelines.alerts.client import host_member


def test_members_of_a_host_have_numbers_and_a_free_one_is_given_again(tmp_path: Path) -> None:
    host = socket.gethostname()
    with host_member("g", tmp_path) as first, host_member("g", tmp_path) as second:
        assert (first, second) == (f"{host}-0", f"{host}-1")
    with host_member("g", tmp_path) as again, host_member("other", tmp_path) as other:
        assert (again, other) == (f"{host}-0", f"{host}-0")
