"""The sum that a training step minimises, and the discriminator that learns beside the network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..settings.settings import LossSettings, TrainConfig
from .discriminator import DISCRIMINATORS
from .perceptual import PerceptualLoss
from .pixel import (
    charbonnier,
    discriminator_loss,
    generator_loss,
    gradient_l1,
    l1,
    means_l1,
    plain_max,
    texture_hinge,
)

Loss = Callable[[Tensor, Tensor], Tensor]
"""Prediction and target, both (B, C, H, W) in 0..1, to a scalar."""


_OPTIONAL: dict[str, Loss] = {
    "means": means_l1,
    "gradient": gradient_l1,
    "texture": texture_hinge,
    "plain": plain_max,
}
"""Losses that count where ``LossSettings`` gives them a weight, ``means_weight`` and so on."""


class Objective:
    """Weighted losses of the network, by name, of those that need no discriminator.

    A new loss is a weight in ``LossSettings`` and an entry of ``_OPTIONAL``.
    """

    def __init__(self, settings: LossSettings, device: torch.device) -> None:
        pixel = l1 if settings.pixel == "l1" else partial(charbonnier, eps=settings.epsilon)
        self.losses: dict[str, tuple[float, Loss]] = {"pixel": (1.0, pixel)}
        for name, loss in _OPTIONAL.items():
            weight = getattr(settings, f"{name}_weight")
            if weight:
                self.losses[name] = (weight, loss)
        if settings.perceptual_weight:
            perceptual = PerceptualLoss(settings.vgg19).to(device)
            self.losses["perceptual"] = (settings.perceptual_weight, perceptual)

    def __call__(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The terms of the sum, each a scalar."""
        return {name: weight * loss(output, target)
                for name, (weight, loss) in self.losses.items()}  # fmt: skip


class Critic:
    """A discriminator with its own Adam.

    Args:
        channels: of the images, 1 or 3.
        config: settles the weight of the generator's loss, kind, width and learning rate of the
            discriminator, the betas of Adam and the seed of the first weights.
        accelerator: of the run.
    """

    def __init__(self, channels: int, config: TrainConfig, accelerator: Accelerator) -> None:
        self.weight, self.rate = config.loss.gan_weight, config.loss.critic_rate
        self.accelerator = accelerator
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.run.seed)
            network = DISCRIMINATORS[config.loss.critic](channels, config.loss.critic_features)
        self.network = network.to(accelerator.device)
        betas = config.schedule.betas
        adam = torch.optim.Adam(self.network.parameters(), betas=betas, fused=True)
        self.prepared, self.optimizer = accelerator.prepare(self.network, adam)

    def adversarial(self, output: Tensor) -> Tensor:
        """Adversarial loss of the restoration network, times ``gan_weight``."""
        # Not the prepared network, which would average gradients of its weights over processes.
        self.network.requires_grad_(False)
        loss = self.weight * generator_loss(self.network(output))
        self.network.requires_grad_(True)
        return loss

    def learn(self, output: Tensor, target: Tensor, rate: float) -> Tensor:
        """Take one step while the network's learning rate is ``rate``; returns the discriminator's
        own loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * rate
        # Both in one batch, so that processes average their gradients once.
        logits = self.prepared(torch.cat([target, output.detach()]))
        loss = discriminator_loss(*logits.chunk(2))
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.optimizer.step()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
