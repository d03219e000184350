"""Text that a node writes on itself."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest

from tests.support.stub_host import nodes_without_host

NODE = SimpleNamespace(hidden=SimpleNamespace(unique_id="7"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    module = ModuleType("server")
    module.__dict__["PromptServer"] = SimpleNamespace(instance=MagicMock(client_id="page"))
    monkeypatch.setitem(sys.modules, "server", module)
    return module.__dict__["PromptServer"].instance


def test_it_goes_to_the_page_that_runs_the_node(
    server: MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nodes_without_host(monkeypatch) as nodes:
        nodes.host.show_text(NODE, "x2")
    server.send_progress_text.assert_called_once_with("x2", "7", "page")


def test_it_goes_nowhere_where_no_page_runs_the_node(
    server: MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.client_id = None
    with nodes_without_host(monkeypatch) as nodes:
        nodes.host.show_text(NODE, "x2")
        monkeypatch.delitem(sys.modules, "server")
        nodes.host.show_text(NODE, "x2")
    server.send_progress_text.assert_not_called()
