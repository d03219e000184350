"""Our SwinIR as an ``UPSCALE_MODEL`` of the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from spandrel import ImageModelDescriptor, ModelTiling
from spandrel.architectures.SwinIR import SwinIRArch
from torch import Tensor

from ...swinir_core import Checkpoint, SwinIR
from ...swinir_core.restoration.execution import is_gray
from .. import host


class SwinIRUpscaleModel(ImageModelDescriptor):
    """A SwinIR in the type that the host's own upscale node and other packs expect.

    The weights belong to ``patcher`` and move only through it: ``to`` a device asks the host to
    load them, ``to`` a type does nothing, because layers compute in the type of their input.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.config
        model = SwinIR(config, host.operations(), host.offload_device(), torch.float32)
        super().__init__(
            model.train(False),
            {key: weight.float() for key, weight in checkpoint.state_dict.items()},
            architecture=SwinIRArch(),
            purpose="Restoration" if config.scale == 1 else "SR",
            tags=[
                config.task,
                f"s{config.img_size}w{config.window_size}",
                f"{config.embed_dim}dim",
                config.resi_connection,
            ],
            supports_half=True,
            supports_bfloat16=True,
            scale=config.scale,
            input_channels=config.in_channels,
            output_channels=config.in_channels,
            tiling=ModelTiling.DISCOURAGED,
        )
        self.origin = replace(checkpoint, state_dict={})
        # Only after load_state_dict, in which some versions of the host create the parameters.
        model.requires_grad_(False)
        self.patcher = host.make_patcher(model)

    def is_dynamic(self) -> bool:
        """Tell whether the host keeps the weights off the device until a layer needs them."""
        return self.patcher.is_dynamic()

    @property
    def device(self) -> torch.device:
        """Device of the inputs; the weights may still wait on another."""
        return self.patcher.load_device

    def to(self, *args: Any, **kwargs: Any) -> SwinIRUpscaleModel:
        """Load the model when its own device is asked for; the host alone decides when to evict."""
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, (str, torch.device)) and self._is_own(torch.device(argument)):
                host.load(self.patcher)
        return self

    def cpu(self) -> SwinIRUpscaleModel:
        return self.to("cpu")

    def cuda(self, device: int | None = None) -> SwinIRUpscaleModel:
        return self.to(torch.device("cuda", device) if device is not None else "cuda")

    @torch.no_grad()  # Not inference mode, whose results nobody may overwrite outside of it.
    def __call__(self, image: Tensor) -> Tensor:
        """Restore (N, C, H, W) in 0..1 to (N, C, scale * H, scale * W) in 0..1, one by one.

        A gray model restores the channels of a colour image one by one, or once if they are equal.
        Raises ``ValueError`` for other channels than the model's.
        """
        batch, channels, height, width = image.shape
        if self.input_channels == 1 < channels and is_gray(image.movedim(1, -1)):
            return self(image[:, :1]).repeat(1, channels, 1, 1)
        if channels == self.input_channels:
            inputs = image
        elif self.input_channels == 1:
            inputs = image.flatten(0, 1).unsqueeze(1)
        else:
            raise ValueError(
                f"This SwinIR takes {self.input_channels} channels, the image has {channels}. "
                "Upscale or Restore (SwinIR) accepts gray images and images with alpha."
            )
        restored = torch.cat([self.model(single[None]).clamp_(0, 1) for single in inputs])
        return restored.view(batch, channels, height * self.scale, width * self.scale)

    def _is_own(self, device: torch.device) -> bool:
        own = self.patcher.load_device
        same = device.index == own.index or None in (device.index, own.index)
        return device.type == own.type and same
