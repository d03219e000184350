"""Files whose numbers mean other than they seem: levels left unused, bands that are no alpha."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from swinir_core.cli.main import main
from swinir_core.errors import ImageError
from swinir_core.image_files.reading import open_image
from tests.support.image_bytes import tiff
from tests.support.image_files import Image, write_image

RGBX = np.random.default_rng(0).integers(0, 256, (20, 24, 4), dtype=np.uint8)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(source: Path, target: Path, *more: str) -> int:
    model = ("--model", "denoise_color_light", "--device", "cpu")
    return main(["restore", str(source), "-o", str(target), *model, *more])


BANDS: dict[str, tuple[str, int, list[str], int, str]] = {
    "unspecified": ("rgb", 4, ["unspecified"], 3, "has a band"),
    "straight alpha": ("rgb", 4, ["unassalpha"], 4, ""),
    "alpha in the colours": ("rgb", 4, ["assocalpha"], 4, ""),
    "gray and unspecified": ("minisblack", 2, ["unspecified"], 1, "has a band"),
    "gray and alpha": ("minisblack", 2, ["unassalpha"], 2, ""),
    "alpha and more": ("rgb", 6, ["unassalpha", *["unspecified"] * 2], 4, "has 2 bands"),
    "more and alpha": ("rgb", 5, ["unspecified", "assocalpha"], 4, "has a band"),
    "two alphas": ("rgb", 5, ["unassalpha", "unassalpha"], 4, "has a band"),
    "infrared": ("rgb", 5, ["unspecified"] * 2, 3, "has 2 bands"),
    "spot colours": ("separated", 6, ["unspecified"] * 2, 3, "has 2 bands"),
    "inks and alpha": ("separated", 5, ["unassalpha"], 4, ""),
}


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(
    ("photometric", "count", "extra", "channels", "note"), BANDS.values(), ids=BANDS
)
def test_only_a_band_marked_as_alpha_is_alpha(
    tmp_path: Path,
    photometric: Any,
    count: int,
    extra: Any,
    channels: int,
    note: str,
    planar: Any,
) -> None:
    path, samples = tmp_path / "picture.tif", np.resize(RGBX, (20, 24, count))
    samples[..., 3:] |= 1  # Nothing is wholly transparent.
    stored = np.moveaxis(samples, 2, 0) if planar == "separate" else samples
    options = {"photometric": photometric, "planarconfig": planar}
    tifffile.imwrite(path, stored, extrasamples=extra, **options)
    picture = open_image(path)
    assert picture.shape == (20, 24, channels)
    assert " ".join(picture.notes).startswith(note)
    assert bool(picture.notes) == bool(note)
    alphas = [kind.endswith("alpha") for kind in extra]
    if channels in (2, 4):
        alpha = samples[..., count - len(extra) + alphas.index(True)]
        assert np.array_equal(picture.levels()[..., -1], alpha)


MULTISPECTRAL = {"three": 3, "four": 4, "five": 5, "twelve": 12}


@pytest.mark.parametrize("count", MULTISPECTRAL.values(), ids=MULTISPECTRAL)
def test_bands_without_a_colour_are_refused(tmp_path: Path, count: int) -> None:
    path, samples = tmp_path / "satellite.tif", np.resize(RGBX, (20, 24, count))
    tifffile.imwrite(path, samples, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageError, match=f"satellite.tif holds {count} bands .* save those to be"):
        open_image(path)


def test_inks_that_are_not_cmyk_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    not_cmyk = (332, "H", 1, 2, True)
    tifffile.imwrite(path, RGBX, photometric="separated", extratags=[not_cmyk])
    with pytest.raises(ImageError, match="holds inks other than 8-bit CMYK"):
        open_image(path)


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
