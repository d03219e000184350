"""Advice of the loader for a file that holds another network."""

from __future__ import annotations

import pytest

from swinir_core.errors import OtherNetworkError
from tests.support.stub_host import nodes_without_host

ADVICE = {
    "an upscaler": (True, 'Load it with "Load Upscale Model" and connect that to '),
    "who knows": (None, 'If this is an upscale model, load it with "Load Upscale Model" and '),
    "a diffusion model, or one for inpainting": (False, "a.pth: this is another network."),
}


@pytest.mark.parametrize("name", ADVICE)
def test_only_upscalers_are_sent_to_the_upscale_loader(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_upscaler, words = ADVICE[name]
    with nodes_without_host(monkeypatch) as nodes:
        error = OtherNetworkError("a.pth: this is another network.", is_upscaler)
        said = nodes.model_loader.advised(error)
    assert said.startswith(words)
    assert said.endswith("a.pth: this is another network.")
