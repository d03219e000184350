"""The perceptual loss against torchvision's VGG19 and hand-computed values."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from swinir_core import CheckpointError
from swinir_core.training.losses.perceptual import TORCHVISION_FILE, PerceptualLoss
from tests.training.runs import random_images

VGG_CONVS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
WEIGHTS = {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0}
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


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
        r"0.weight has shape \(3, 1, 3, 3\), \(3, 3, 3, 3\)": good
        | {first: torch.zeros(3, 1, 3, 3)},
        r"34.bias has shape \(4,\), \(3,\) expected": good | {bias: torch.zeros(4)},
        "34.bias holds NaN": good | {bias: torch.full((3,), math.nan)},
        "holds Python objects": {"features.0.weight": Harmful()},
    }
    for message, contents in broken.items():
        torch.save(contents, path)
        with pytest.raises(CheckpointError, match=f"vgg.pth.*{message}"):
            PerceptualLoss(path)
    with pytest.raises(CheckpointError, match=r"absent\.pth: there is no such file"):
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
