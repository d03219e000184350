"""Models of other architectures behind the contract of a ``Restorer``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spandrel import ImageModelDescriptor, ModelLoader
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

from swinir_core import Restorer
from swinir_core.restoration.foreign_model import ForeignModel


def descriptor(**options: Any) -> ImageModelDescriptor:
    torch.manual_seed(0)
    network = SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2, **options)
    model = ModelLoader().load_from_state_dict({"params": network.state_dict()})
    assert isinstance(model, ImageModelDescriptor)
    return model


def test_its_images_are_restored_one_by_one() -> None:
    model, images = descriptor(), torch.rand(3, 12, 20, 3)
    sizes = []
    model.model.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    result = Restorer(ForeignModel(model), "cpu", torch.float32)(images)
    assert sizes == [(1, 3, 12, 20)] * 3
    assert torch.allclose(result, model(images.movedim(-1, 1)).movedim(1, -1), atol=1e-6)


def test_memory_grows_with_the_input() -> None:
    model = ForeignModel(descriptor())
    cpu = torch.device("cpu")
    assert model.estimate_memory(512, 512, torch.float32, cpu) == 512**2 * 3 * 4 * 2 * 384
    assert model.estimate_memory(8, 8, torch.float32, cpu, 5) == 5 * 8**2 * 3 * 4 * 2 * 384


@pytest.mark.parametrize(("num_in_ch", "num_out_ch"), [(4, 4), (3, 1)])
def test_other_channels_are_refused(num_in_ch: int, num_out_ch: int) -> None:
    model = descriptor(num_in_ch=3, num_out_ch=3)
    model.input_channels, model.output_channels = num_in_ch, num_out_ch
    words = f"turns {num_in_ch} channels into {num_out_ch}; only models for gray"
    with pytest.raises(ValueError, match=words):
        ForeignModel(model)
