"""Every published file is recognised from its layout, with and without buffers, and runs right."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import nn

from swinir_core import PRESETS, SwinIRConfig, load_model, read_checkpoint
from tests.support.reference import official_state_dict, reference_network

S48 = {"img_size": 48}


def official_files() -> dict[str, tuple[SwinIRConfig, str]]:
    """File name: configuration, and the key the weights are wrapped in."""
    files = {}
    for scale in (2, 3, 4, 8):
        classical = PRESETS[f"classical_sr_x{scale}"]
        stem = "001_classicalSR_{}_SwinIR-M_x{}"
        files[stem.format("DIV2K_s48w8", scale)] = (replace(classical, img_size=48), "params")
        files[stem.format("DF2K_s64w8", scale)] = (classical, "params")
    for scale in (2, 3, 4):
        files[f"002_lightweightSR_DIV2K_s64w8_SwinIR-S_x{scale}"] = (
            PRESETS[f"lightweight_sr_x{scale}"],
            "params",
        )
    real = "003_realSR_BSRGAN_{}_x{}_{}"
    files[real.format("DFO_s64w8_SwinIR-M", 4, "GAN")] = (PRESETS["real_sr_x4"], "params_ema")
    files[real.format("DFO_s64w8_SwinIR-M", 4, "PSNR")] = (PRESETS["real_sr_x4"], "params")
    files[real.format("DFO_s64w8_SwinIR-M", 2, "GAN")] = (PRESETS["real_sr_x2"], "params_ema")
    large = PRESETS["real_sr_large_x4"]
    files[real.format("DFOWMFC_s64w8_SwinIR-L", 4, "GAN")] = (large, "params_ema")
    files[real.format("DFOWMFC_s64w8_SwinIR-L", 4, "PSNR")] = (large, "params")
    for noise in (15, 25, 50):
        for number, color in (("004_grayDN", "gray"), ("005_colorDN", "color")):
            files[f"{number}_DFWB_s128w8_SwinIR-M_noise{noise}"] = (
                PRESETS[f"{color}_denoise"],
                "params",
            )
    for quality in (10, 20, 30, 40):
        for name, color in (("CAR", "gray"), ("colorCAR", "color")):
            files[f"006_{name}_DFWB_s126w7_SwinIR-M_jpeg{quality}"] = (
                PRESETS[f"{color}_jpeg"],
                "params",
            )
    return files


FILES = official_files()
NAMES = [name for name, _ in sorted(FILES.items(), key=lambda file: repr(file[1][0]))]


@lru_cache(maxsize=1)
def reference(config: SwinIRConfig) -> nn.Module:
    return reference_network(config)


@pytest.mark.parametrize("name", NAMES)
def test_official_file(name: str, tmp_path: Path) -> None:
    config, wrapper = FILES[name]
    network = reference(config)
    path = tmp_path / f"{name}.pth"
    torch.save({wrapper: official_state_dict(network)}, path)
    assert read_checkpoint(path).config == config
    torch.save({wrapper: official_state_dict(network, buffers=False)}, path)
    # The training patch size is known from a buffer alone, and matters to nothing else.
    assert replace(read_checkpoint(path).config, img_size=config.img_size) == config

    x = torch.rand(1, config.in_channels, 9, 12)
    with torch.no_grad():
        assert (load_model(path)(x) - network(x)).abs().max() <= 1e-5
