"""The host of these tests is that of tests/host."""

from tests.host.conftest import host, session_host

__all__ = ["host", "session_host"]
