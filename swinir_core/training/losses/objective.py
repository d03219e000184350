"""What a training step minimises: pixel loss, and for real-world images perceptual loss and GAN."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..settings.settings import LossSettings
from .discriminator import UNetDiscriminator
from .perceptual import PerceptualLoss
from .pixel import charbonnier, discriminator_loss, generator_loss, l1


class Objective:
    """The losses of the generator that need no second network in training, weighted."""

    def __init__(self, settings: LossSettings, device: torch.device) -> None:
        self.settings = settings
        self.perceptual = None
        if settings.perceptual_weight:
            self.perceptual = PerceptualLoss(settings.vgg19).to(device)

    def __call__(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The terms whose sum is minimised, by name."""
        settings = self.settings
        if settings.pixel == "l1":
            terms = {"pixel": l1(output, target)}
        else:
            terms = {"pixel": charbonnier(output, target, settings.epsilon)}
        if self.perceptual:
            terms["perceptual"] = settings.perceptual_weight * self.perceptual(output, target)
        return terms


class Critic:
    """A discriminator that learns beside the network, with an Adam of its own."""

    def __init__(
        self,
        channels: int,
        settings: LossSettings,
        betas: tuple[float, float],
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        self.weight = settings.gan_weight
        self.accelerator = accelerator
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = UNetDiscriminator(channels, settings.critic_features)
        self.network = network.to(accelerator.device)
        adam = torch.optim.Adam(self.network.parameters(), betas=betas, fused=True)
        self.prepared, self.optimizer = accelerator.prepare(self.network, adam)

    def adversarial(self, output: Tensor) -> Tensor:
        """The weighted loss of the generator for being found out."""
        # Not the prepared network: no gradient of its weights is wanted, nor to be averaged.
        self.network.requires_grad_(False)
        loss = self.weight * generator_loss(self.network(output))
        self.network.requires_grad_(True)
        return loss

    def learn(self, output: Tensor, target: Tensor, rate: float) -> Tensor:
        """One step of its own; returns its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # In one batch, so that processes average their gradients once.
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
