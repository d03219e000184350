"""``swinir look``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swinir_core.cli.main import main
from swinir_core.degradation.samples import degraded, read_sample
from tests.support.image_files import Image, write_image

pytestmark = pytest.mark.usefixtures("inside")


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    noisy, _ = degraded(read_sample("coffee"), 2, noise=25)
    packed, _ = degraded(read_sample("coffee"), 2, jpeg_quality=30)
    write_image("noisy.png", Image(noisy, 8))
    write_image("set/inner/packed.png", Image(packed, 8))
    write_image("small.png", Image(noisy[:20, :20], 8))


def test_files_and_folders_are_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["look", "noisy.png", "set", "--json", "looks.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("noisy.png: Noise: sigma 2")
    assert lines[1].endswith("Use denoise_color_light.")
    assert lines[3] == "  It was saved as JPEG of quality 30. Use jpeg_color_light."
    looks = json.loads(Path("looks.json").read_text())["images"]
    assert [one["model"] for one in looks] == ["denoise_color_light", "jpeg_color_light"]


def test_one_that_fails_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["look", "missing.png", "small.png", "noisy.png"]) == 1
    said = capsys.readouterr()
    assert "missing.png: no such file" in said.err
    assert "small.png was not looked at: An image to look at must have at least 32" in said.err
    assert said.out.startswith("noisy.png")
