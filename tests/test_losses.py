"""Losses against hand-computed values and gradients; VGG19 against torchvision's; the critic."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from swinir_core.training.discriminator import UNetDiscriminator
from swinir_core.training.losses import (
    GAN_WEIGHT,
    charbonnier,
    discriminator_loss,
    generator_loss,
    l1,
)
from swinir_core.training.perceptual import TORCHVISION_FILE, PerceptualLoss

VGG_CONVS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
WEIGHTS = {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0}
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# Pixel losses


@pytest.mark.parametrize(
    ("loss", "value", "gradient"),
    [
        (l1, (0.3 + 0 + 0.4) / 3, [1 / 3, 0, -1 / 3]),
        (
            lambda p, t: charbonnier(p, t, eps=0.4),
            (0.5 + 0.4 + 0.32**0.5) / 3,
            [0.3 / 0.5 / 3, 0, -0.4 / 0.32**0.5 / 3],
        ),
    ],
    ids=["l1", "charbonnier"],
)
def test_pixel_loss_by_hand(loss, value: float, gradient: list[float]) -> None:
    prediction = torch.tensor([0.8, 0.5, 0.1], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0.5, 0.5, 0.5], dtype=torch.float64)
    result = loss(prediction, target)
    result.backward()
    assert result.item() == pytest.approx(value)
    assert prediction.grad is not None
    torch.testing.assert_close(prediction.grad, torch.tensor(gradient, dtype=torch.float64))


def test_charbonnier_is_eps_for_equal_images_with_no_gradient() -> None:
    image = random_images(2, 3, 4, 4).requires_grad_()
    loss = charbonnier(image, image.detach())
    loss.backward()
    assert loss.item() == pytest.approx(1e-3)
    assert image.grad is not None
    assert not image.grad.any()


@pytest.mark.parametrize("loss", [l1, charbonnier])
def test_pixel_loss_gradcheck(loss) -> None:
    prediction = random_images(2, 3, 4, 4).double().requires_grad_()
    target = random_images(2, 3, 4, 4, seed=1).double()
    assert torch.autograd.gradcheck(loss, (prediction, target))


@pytest.mark.parametrize("loss", [l1, charbonnier])
def test_pixel_loss_is_computed_in_float32(loss) -> None:
    """In bfloat16 the mean of 3000 differences would be off by its third digit."""
    prediction = random_images(1, 3, 32, 32).bfloat16()
    target = random_images(1, 3, 32, 32, seed=1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        result = loss(prediction, target)
    assert result.dtype == torch.float32
    assert result.item() == pytest.approx(loss(prediction.double(), target.double()).item())


@pytest.mark.parametrize("loss", [l1, charbonnier])
def test_pixel_loss_refuses_to_broadcast(loss) -> None:
    with pytest.raises(ValueError, match=r"same shape, got \(1, 3, 4, 4\) and \(1, 1, 4, 4\)"):
        loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("eps", [0, -1e-3, math.nan])
def test_charbonnier_refuses_an_eps_without_a_gradient(eps: float) -> None:
    with pytest.raises(ValueError, match="eps of the Charbonnier loss must be positive"):
        charbonnier(torch.zeros(1), torch.zeros(1), eps)


# Adversarial losses


def test_generator_loss_by_hand() -> None:
    logits = torch.tensor([0.0, math.log(3)], dtype=torch.float64, requires_grad=True)
    loss = generator_loss(logits)
    loss.backward()
    # -log sigmoid is log 2 and log 4/3; its slope is sigmoid - 1.
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([-1 / 2 / 2, -1 / 4 / 2])
    assert GAN_WEIGHT == 0.1


def test_discriminator_loss_by_hand() -> None:
    real = torch.tensor([0.0, math.log(3)], dtype=torch.float64, requires_grad=True)
    fake = torch.tensor([math.log(3)], dtype=torch.float64, requires_grad=True)
    loss = discriminator_loss(real, fake)
    loss.backward()
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2 + math.log(4))
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.tolist() == pytest.approx([-1 / 2 / 2, -1 / 4 / 2])
    assert fake.grad.tolist() == pytest.approx([3 / 4])


def test_adversarial_losses_stay_finite_for_certain_logits() -> None:
    certain = torch.tensor([-200.0, 200.0])
    assert generator_loss(certain).item() == pytest.approx(100)
    assert discriminator_loss(certain, certain).item() == pytest.approx(200)


def test_adversarial_losses_are_computed_in_float32() -> None:
    logits = torch.linspace(-3, 3, 257).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        losses = generator_loss(logits), discriminator_loss(logits, logits)
    assert [loss.dtype for loss in losses] == [torch.float32] * 2
    assert losses[0].item() == pytest.approx(generator_loss(logits.double()).item())


# Perceptual loss


def narrow_vgg() -> nn.Sequential:
    """torchvision's own VGG19 features, every convolution replaced by one of an eighth of its
    channels with random weights that neither die out nor grow."""
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        features = models.vgg19().features
    for index, layer in enumerate(features):
        if isinstance(layer, nn.Conv2d):
            in_channels = 3 if index == 0 else layer.in_channels // 8
            conv = nn.Conv2d(in_channels, layer.out_channels // 8, 3, padding=1)
            generator = torch.Generator().manual_seed(index)
            with torch.no_grad():
                nn.init.kaiming_normal_(conv.weight, generator=generator)
                assert conv.bias is not None
                nn.init.normal_(conv.bias, std=0.1, generator=generator)
            features[index] = conv
    return features


def write_vgg(path: Path, features: nn.Sequential, prefix: str) -> Path:
    state = {prefix + name: value for name, value in features.state_dict().items()}
    if prefix:
        state["classifier.0.weight"] = torch.zeros(2, 2)
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def hand_made_vgg(path: Path, sign: float) -> Path:
    """Three channels throughout: conv1_2 gives ``sign`` times the normalised image, if that is
    positive, and everything after it gives nothing."""
    state = {}
    for index in VGG_CONVS:
        state[f"features.{index}.weight"] = torch.zeros(3, 3, 3, 3)
        state[f"features.{index}.bias"] = torch.zeros(3)
    state["features.0.weight"][:, :, 1, 1] = torch.eye(3)
    state["features.2.weight"][:, :, 1, 1] = sign * torch.eye(3)
    torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["full.pth", "full.safetensors"])
@pytest.mark.parametrize("prefix", ["features.", ""])
def test_perceptual_loss_agrees_with_torchvision(tmp_path: Path, name: str, prefix: str) -> None:
    """Walks torchvision's own layers and compares after the indices of the recipe."""
    features = narrow_vgg()
    loss = PerceptualLoss(write_vgg(tmp_path / name, features, prefix))
    prediction, target = random_images(2, 3, 37, 50), random_images(2, 3, 37, 50, seed=1)
    x, y, expected = (prediction - MEAN) / STD, (target - MEAN) / STD, 0.0
    for index, layer in enumerate(features):
        x, y = layer(x.clone()), layer(y.clone())  # cloned, for torchvision's ReLUs work in place
        expected += WEIGHTS.get(index, 0) * (x.detach() - y.detach()).abs().mean().item()
    assert loss(prediction, target).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sign", [1, -1], ids=["positive", "before-activation"])
def test_perceptual_loss_by_hand(tmp_path: Path, sign: int) -> None:
    """0.1 mean |d / std|; a ReLU after conv1_2 would leave nothing of the negative case."""
    loss = PerceptualLoss(hand_made_vgg(tmp_path / "vgg.pth", sign))
    prediction = (0.6 + 0.4 * random_images(1, 3, 16, 16)).requires_grad_()
    target = 0.6 + 0.4 * random_images(1, 3, 16, 16, seed=1)
    target.requires_grad_()
    result = loss(prediction, target)
    result.backward()
    difference = (prediction - target).detach()
    assert result.item() == pytest.approx(0.1 * (difference.abs() / STD).mean().item(), rel=1e-5)
    assert prediction.grad is not None
    expected = 0.1 * difference.sign() / STD / difference.numel()
    torch.testing.assert_close(prediction.grad, expected)
    assert target.grad is None


def test_perceptual_loss_of_equal_images_is_zero(tmp_path: Path) -> None:
    loss = PerceptualLoss(write_vgg(tmp_path / "vgg.pth", narrow_vgg(), ""))
    image = random_images(1, 3, 32, 32)
    assert loss(image, image.clone()).item() == 0


def test_gray_is_three_equal_channels(tmp_path: Path) -> None:
    loss = PerceptualLoss(write_vgg(tmp_path / "vgg.pth", narrow_vgg(), ""))
    gray, target = random_images(2, 1, 24, 24), random_images(2, 1, 24, 24, seed=1)
    expected = loss(gray.expand(-1, 3, -1, -1), target.expand(-1, 3, -1, -1))
    torch.testing.assert_close(loss(gray, target), expected)


def test_perceptual_loss_is_frozen_and_leaves_no_trace_in_a_checkpoint(tmp_path: Path) -> None:
    loss = PerceptualLoss(write_vgg(tmp_path / "vgg.pth", narrow_vgg(), ""))
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_perceptual_loss_ignores_autocast(tmp_path: Path) -> None:
    loss = PerceptualLoss(write_vgg(tmp_path / "vgg.pth", narrow_vgg(), ""))
    prediction, target = random_images(1, 3, 32, 32), random_images(1, 3, 32, 32, seed=1)
    expected = loss(prediction, target)
    with torch.autocast("cpu", torch.bfloat16):
        result = loss(prediction, target)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected)


def test_torchvision_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"local \.pth or \.safetensors") as caught:
        PerceptualLoss()
    assert str(tmp_path / "checkpoints") in str(caught.value)
    assert TORCHVISION_FILE in str(caught.value)
    (tmp_path / "checkpoints").mkdir()
    hand_made_vgg(tmp_path / "checkpoints" / TORCHVISION_FILE, 1)
    PerceptualLoss()


def test_torchvision_still_names_the_file_so() -> None:
    models = pytest.importorskip("torchvision.models")
    assert models.VGG19_Weights.IMAGENET1K_V1.url.endswith(f"/{TORCHVISION_FILE}")


class Harmful:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit",))


def test_wrong_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "vgg.pth"
    good = torch.load(hand_made_vgg(path, 1), weights_only=True)
    first, bias = "features.0.weight", "features.34.bias"
    broken = {
        "has no features.16.weight": {k: v for k, v in good.items() if ".16." not in k},
        r"0.weight has shape \(3, 1, 3, 3\), \(n, 3, 3, 3\)": good
        | {first: torch.zeros(3, 1, 3, 3)},
        r"34.bias has shape \(4,\), \(3,\) expected": good | {bias: torch.zeros(4)},
        "features.34.bias holds NaN": good | {bias: torch.full((3,), math.nan)},
        "cannot be read": {"features.0.weight": Harmful()},
    }
    for message, contents in broken.items():
        torch.save(contents, path)
        with pytest.raises(ValueError, match=f"vgg.pth.*{message}"):
            PerceptualLoss(path)
    with pytest.raises(FileNotFoundError, match=r"absent\.pth: there is no such file"):
        PerceptualLoss(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 2, 16, 16), "expected images"),
        ((3, 16, 16), "expected images"),
        ((1, 3, 15, 16), "at least 16x16 pixels, got 15x16"),
    ],
)
def test_perceptual_loss_refuses(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    loss = PerceptualLoss(hand_made_vgg(tmp_path / "vgg.pth", 1))
    with pytest.raises(ValueError, match=message):
        loss(torch.zeros(shape), torch.zeros(shape))


# Discriminator


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
def test_discriminator_gives_a_logit_a_pixel(size: tuple[int, int], channels: int) -> None:
    network = UNetDiscriminator(channels, num_feat=4)
    assert network(random_images(2, channels, *size)).shape == (2, 1, *size)


def test_discriminator_refuses_patches_under_eight_pixels() -> None:
    with pytest.raises(ValueError, match="at least 8x8 pixels, got 7x9"):
        UNetDiscriminator(num_feat=4)(torch.zeros(1, 3, 7, 9))


def test_spectral_norm_follows_the_weights() -> None:
    """Weights a thousand times larger: after some forwards every largest singular value is 1."""
    torch.manual_seed(0)
    network = UNetDiscriminator(num_feat=8)
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
