"""Every node and input has a name in every language the pack speaks."""

from __future__ import annotations

import json

import pytest

from tests.host.comfy_host import ComfyHost
from tests.host.conftest import REPOSITORY

pytestmark = pytest.mark.host

LANGUAGES = ("en", "zh", "ja", "ko", "de", "fr", "es")


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_are_complete_and_served(host: ComfyHost, language: str) -> None:
    infos = host.get_json("/object_info")
    ours = {name: info for name, info in infos.items() if name.startswith("SwinIR")}
    path = REPOSITORY / "locales" / language / "nodeDefs.json"
    names = json.loads(path.read_text("utf-8"))

    assert set(names) == set(ours)
    for node, info in ours.items():
        inputs = [*info["input"]["required"], *info["input"].get("optional", {})]
        assert list(names[node]["inputs"]) == inputs
        assert list(names[node]["outputs"]) == [str(i) for i in range(len(info["output"]))]
        if language == "en":
            assert names[node]["display_name"] == info["display_name"]
    served = host.get_json("/i18n")[language]["nodeDefs"]
    assert {node: served[node] for node in names} == names
