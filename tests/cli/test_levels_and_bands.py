"""Files whose numbers mean other than they seem: levels left unused, bands that are no alpha."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from swinir_core.cli import options
from swinir_core.cli.main import main
from swinir_core.image_files.reading import open_image
from swinir_core.restoration import colors, edges, transparency
from tests.support.image_bytes import tiff
from tests.support.image_files import Image, write_image

RGBX = np.random.default_rng(0).integers(0, 256, (20, 24, 4), dtype=np.uint8)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(source: Path, target: Path, *more: str) -> int:
    model = ("--model", "denoise_color_light", "--device", "cpu")
    return main(["restore", str(source), "-o", str(target), *model, *more])


def test_choices_are_those_of_the_restorer() -> None:
    ours = (options.EDGES, options.COLORS, options.ALPHAS)
    assert ours == (edges.EDGES, colors.COLORS, transparency.ALPHAS)


BANDS = {
    "unspecified": (RGBX, "unspecified", 3),
    "straight alpha": (RGBX, "unassalpha", 4),
    "alpha in the colours": (RGBX, "assocalpha", 4),
    "gray and unspecified": (RGBX[..., :2], "unspecified", 1),
    "gray and alpha": (RGBX[..., :2], "unassalpha", 2),
}


@pytest.mark.parametrize(("samples", "kind", "channels"), BANDS.values(), ids=BANDS)
def test_only_a_band_marked_as_alpha_is_alpha(
    tmp_path: Path, samples: np.ndarray, kind: str, channels: int
) -> None:
    path = tmp_path / "picture.tif"
    photometric = "rgb" if channels > 2 else "minisblack"
    tifffile.imwrite(
        path, samples, photometric=photometric, planarconfig="contig", extrasamples=[kind]
    )
    picture = open_image(path)
    assert picture.shape[2] == channels
    assert bool(picture.notes) == (kind == "unspecified")


@pytest.mark.parametrize("white", [None, 4095])
def test_twelve_bits_in_sixteen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], white: int | None
) -> None:
    source, target = tmp_path / "deep.tif", tmp_path / "result.tif"
    samples = np.full((24, 24, 3), 4000, np.uint16)
    source.write_bytes(tiff(samples))
    assert run(source, target, *(() if white is None else ("--white", str(white)))) == 0
    assert ("pass --white 4095" in capsys.readouterr().err) == (white is None)
    if white is not None:
        assert abs(tifffile.imread(target).astype(int) - 4000).max() < 200


@pytest.mark.parametrize(("alpha", "status"), [(255, 0), (254, 1)])
def test_jpeg_takes_an_opaque_picture(tmp_path: Path, out: Path, alpha: int, status: int) -> None:
    samples = RGBX.copy()
    samples[..., 3] = alpha
    write_image(tmp_path / "picture.png", Image(samples / np.float32(255)))
    assert run(tmp_path / "picture.png", out / "picture.jpg") == status
    assert (out / "picture.jpg").exists() == (status == 0)
