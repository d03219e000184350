"""The critic: its size, its levels, its spectral norm, and that it learns."""

import pytest
import torch
from torch import Tensor, nn

from swinir_core.training.losses.discriminator import (
    DISCRIMINATORS,
    PatchDiscriminator,
    UNetDiscriminator,
)
from swinir_core.training.losses.pixel import discriminator_loss
from tests.training.runs import random_images

BOTH = pytest.mark.parametrize("kind", DISCRIMINATORS.values(), ids=DISCRIMINATORS)


def normalised_convs(network: nn.Module) -> list[nn.Conv2d]:
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and nn.utils.parametrize.is_parametrized(module)
    ]


def test_discriminator_has_the_size_of_real_esrgan() -> None:
    """4,376,897 parameters with 64 features and colour, 8 normalised convolutions of 10."""
    with torch.device("meta"):
        network = UNetDiscriminator()
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_376_897
    assert len(normalised_convs(network)) == 8


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (31, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_number_of_logits(size: tuple[int, int], channels: int) -> None:
    height, width = size
    for network, logits in (
        (UNetDiscriminator(channels, num_feat=4), size),
        (PatchDiscriminator(channels, num_feat=4), (height // 8, width // 8)),
    ):
        assert network(random_images(2, channels, *size)).shape == (2, 1, *logits)


@BOTH
def test_discriminator_refuses_patches_under_eight_pixels(kind: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="at least 8x8 pixels, got 7x9"):
        kind(num_feat=4)(torch.zeros(1, 3, 7, 9))


@BOTH
def test_spectral_norm_follows_the_weights(kind: type[nn.Module]) -> None:
    """Weights a thousand times larger: after some forwards every largest singular value is 1."""
    torch.manual_seed(0)
    network = kind(num_feat=8)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 100)
        for _ in range(60):
            network(random_images(1, 3, 8, 8))
    for conv in normalised_convs(network.eval()):
        largest = torch.linalg.matrix_norm(conv.weight.flatten(1), 2)
        assert largest.item() == pytest.approx(1, abs=0.02)


def silence(module: nn.Module) -> torch.utils.hooks.RemovableHandle:
    def to_zero(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.zeros_like(output)

    return module.register_forward_hook(to_zero)


def test_every_level_of_the_discriminator_reaches_the_logits() -> None:
    torch.manual_seed(0)
    network = UNetDiscriminator(num_feat=4).eval()
    image = random_images(1, 3, 32, 32)
    logits = network(image)
    for conv in (*network.down, *network.up):
        hook = silence(conv)
        assert not torch.allclose(network(image), logits, rtol=0, atol=1e-6)
        hook.remove()


def test_skip_connections() -> None:
    """Without the output of a doubling, the activations of that size still pass."""
    network, arrived = UNetDiscriminator(num_feat=4).eval(), []
    for conv, following in zip(network.up, [*network.up[1:], network.head[0]], strict=True):
        hooks = [
            silence(conv),
            following.register_forward_pre_hook(lambda _module, inputs: arrived.append(inputs[0])),
        ]
        network(random_images(1, 3, 32, 32))
        assert arrived.pop().any()
        for hook in hooks:
            hook.remove()


def test_discriminator_gradcheck() -> None:
    torch.manual_seed(0)
    network = UNetDiscriminator(1, num_feat=2).double().eval()
    image = random_images(1, 1, 8, 8).double().requires_grad_()
    assert torch.autograd.gradcheck(network, (image,))


def test_discriminator_ignores_autocast() -> None:
    network = UNetDiscriminator(num_feat=4).eval()
    image = random_images(1, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(image.bfloat16())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, network(image.bfloat16().float()))


def test_two_judgements_before_one_step() -> None:
    """Real and fake images are judged in turn, then differentiated together."""
    network = UNetDiscriminator(num_feat=4)
    real, fake = random_images(2, 3, 16, 16), random_images(2, 3, 16, 16, seed=1)
    discriminator_loss(network(real), network(fake)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_discriminator_is_resumed_exactly() -> None:
    """The state of the power iterations is in the state dict."""
    network, image = UNetDiscriminator(num_feat=4), random_images(1, 3, 16, 16)
    network(image)
    twin = UNetDiscriminator(num_feat=4)
    twin.load_state_dict(network.state_dict())
    for _ in range(3):
        torch.testing.assert_close(twin(image), network(image), rtol=0, atol=0)


def test_a_discriminator_learns_to_tell_noise_from_gray() -> None:
    torch.manual_seed(0)
    network = UNetDiscriminator(1, num_feat=4)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for step in range(40):
        real = random_images(4, 1, 8, 8, seed=step)
        loss = discriminator_loss(network(real), network(torch.full_like(real, 0.5)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]
