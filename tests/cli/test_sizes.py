"""``swinir restore`` to a size, and at a strength."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from swinir_core.checkpoints.models import load_model
from swinir_core.cli.main import main
from swinir_core.image_files.reading import open_image
from swinir_core.restoration.inputs import check_inputs
from swinir_core.restoration.restorer import Restorer
from swinir_core.restoration.sizing import TargetSize, restore_to_size
from tests.support.image_files import read_image


def restore(model: str, *arguments: str) -> int:
    image = PIL.Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    )
    image.save("in.png", dpi=(300, 300))
    return main(["restore", "in.png", "-o", "out.png", *arguments, "--model", model])


@pytest.mark.parametrize(
    ("options", "way", "value", "strength", "size"),
    [
        (["--scale", "1.5"], "factor", 1.5, 1.0, (14, 21)),
        (["--scale", "5"], "factor", 5, 1.0, (45, 70)),
        (["--longest", "40"], "longer side", 40, 1.0, (26, 40)),
        (["--megapixels", "0.001"], "megapixels", 0.001, 0.5, (25, 39)),
        ([], "model", 2, 0.25, (18, 28)),
    ],
)
def test_sizes(
    model: str, options: list[str], way: str, value: float, strength: float, size: tuple[int, int]
) -> None:
    assert restore(model, *options, "--strength", str(strength)) == 0
    result = read_image("out.png").pixels
    inputs = check_inputs(torch.from_numpy(read_image("in.png").pixels)[None])
    restorer = Restorer(load_model(model), strength=strength)
    expected = restore_to_size(restorer, inputs, TargetSize(way, value))[0]
    assert result.shape[:2] == size
    np.testing.assert_allclose(result, expected, atol=0.51 / 255)


def test_dots_per_inch_follow_each_side(model: str) -> None:
    assert restore(model, "--longest", "21") == 0
    resolution = open_image(Path("out.png")).metadata.resolution
    assert resolution is not None
    assert float(resolution.x / resolution.y) == pytest.approx(
        float(Fraction(21, 14) / Fraction(14, 9)), rel=1e-4
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "0"], "--scale: must be a number above 0, not '0'"),
        (["--longest", "wide"], "--longest: must be a number above 0, not 'wide'"),
        (["--megapixels", "inf"], "--megapixels: must be a number above 0, not 'inf'"),
        (["--strength", "1.5"], "--strength: must be a number from 0 to 1, not '1.5'"),
        (["--strength", "nan"], "--strength: must be a number from 0 to 1, not 'nan'"),
        (["--scale", "2", "--longest", "50"], "--longest: not allowed with argument --scale"),
    ],
)
def test_nonsense_is_named(
    model: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        restore(model, *options)
    assert message in capsys.readouterr().err
