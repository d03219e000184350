"""The public names of ``swinir_core``, which people's scripts import."""

import pytest

import swinir_core

NAMES = [
    "PRESETS",
    "Cancelled",
    "Checkpoint",
    "CheckpointError",
    "ImageError",
    "ModelInfo",
    "Restorer",
    "SwinIR",
    "SwinIRConfig",
    "TileSettings",
    "bundled_models",
    "estimate_memory",
    "load_model",
    "metrics",
    "read_checkpoint",
    "write_checkpoint",
]


def test_exported_names() -> None:
    assert sorted(swinir_core.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_importable_and_documented(name: str) -> None:
    exported = getattr(swinir_core, name)
    assert exported.__doc__
    assert getattr(exported, "__name__", name).rpartition(".")[2] == name


def test_the_metrics() -> None:
    assert all(callable(getattr(swinir_core.metrics, name)) for name in ("psnr", "ssim", "psnr_b"))


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'swinir_core' has no attribute 'nothing'"):
        swinir_core.nothing  # noqa: B018
