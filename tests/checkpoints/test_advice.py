"""The model that is named for each damage."""

from __future__ import annotations

import pytest

from swinir_core.checkpoints.advice import advise
from swinir_core.checkpoints.models import bundled_models
from swinir_core.images.looking import Look

CASES = {
    "clean": (Look(1, 100, 0.5, False), "upscale_x2_light", 1),
    "clean, a good JPEG": (Look(1, 95, 0.5, False), "upscale_x2_light", 1),
    "no edges": (Look(0, 100, 0, True), "upscale_x2_light", 1),
    "noise": (Look(25, 100, 0.5, False), "denoise_color_light", 1),
    "noise in a gray picture": (Look(25, 100, 0.5, True), "denoise_gray_light", 1),
    "light noise": (Look(5, 100, 0.5, False), "denoise_color_light", 0.45),
    "light noise in a gray picture": (Look(7, 100, 0.5, True), "denoise_gray_light", 0.45),
    "JPEG": (Look(1, 30, 0.5, False), "jpeg_color_light", 1),
    "light JPEG": (Look(5, 80, 0.5, True), "jpeg_color_light", 0.5),
    "noise in a light JPEG": (Look(20, 90, 0.5, False), "denoise_color_light", 1),
    "noise and JPEG": (Look(20, 60, 0.5, False), "real_x4_light", 1),
    "blur": (Look(1, 100, 1.8, False), "real_x4_light", 1),
}


@pytest.mark.parametrize("name", CASES)
def test_model_and_strength(name: str) -> None:
    seen, model, strength = CASES[name]
    advice = advise(seen, bundled_models())
    assert (advice.model.name, advice.strength) == (model, strength)
    assert advice.clean == (model == "upscale_x2_light")
    assert (f" with strength {strength}." in advice.sentence(model)) == (strength < 1)


def test_only_models_that_are_there_are_named() -> None:
    others = [model for model in bundled_models() if "denoise" not in model.task]
    advice = advise(Look(70, 100, 0.5, False), others)
    assert (advice.model, advice.missing) == (others[0], True)
    assert advice.sentence("x") == (
        "There is noise of sigma 70, more than the models know. No model here is made for that."
    )
