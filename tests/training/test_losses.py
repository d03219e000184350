"""Pixel and adversarial losses against hand-computed values and gradients."""

import math

import pytest
import torch
from torch import Tensor

from swinir_core.training.losses.pixel import (
    charbonnier,
    discriminator_loss,
    generator_loss,
    gradient_l1,
    l1,
    means_l1,
    plain_max,
    texture_hinge,
)
from tests.training.runs import random_images

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


def test_gradient_loss_by_hand() -> None:
    """Errors [[0, 1, 3], [0, 0, 2]]: differences along rows 1, 2, 0, 2, along columns 0, 1, 1."""
    target = random_images(1, 1, 2, 3)
    prediction = target + torch.tensor([[0.0, 1.0, 3.0], [0.0, 0.0, 2.0]])
    assert gradient_l1(prediction, target).item() == pytest.approx((5 / 4 + 2 / 3) / 2)
    assert gradient_l1(target + 0.25, target).item() == pytest.approx(0, abs=1e-6)


def stripes(shift: int) -> Tensor:
    """Vertical stripes two pixels wide, 0.5 apart, (1, 1, 33, 33)."""
    return 0.5 * ((torch.arange(33) + shift) // 2 % 2).expand(1, 1, 33, 33)


BOARD = 0.5 * (torch.arange(33)[:, None] + torch.arange(33)).remainder(2).expand(1, 1, -1, -1)
TEXTURE = {
    "the target": (stripes(0), stripes(0), 0.0),
    "half as strong": (0.5 * stripes(0), stripes(0), 0.125),
    "stronger": (2 * stripes(0), stripes(0), 0.0),
    "the opposite": (stripes(2), stripes(0), 0.25),
    "another pattern": (BOARD, stripes(0), 0.0),
    "half as strong, and half of another": (0.5 * (stripes(0) + BOARD), stripes(0), 0.0),
    "none": (torch.full_like(BOARD, 0.25), stripes(0), 0.0),
    "where the target is flat": (stripes(0), torch.zeros_like(BOARD), 0.0),
}
"""Prediction, target and loss. Of the differences along two axes a quarter is 0.5, so that their
root mean square is 0.25."""


@pytest.mark.parametrize(("prediction", "target", "loss"), TEXTURE.values(), ids=TEXTURE)
def test_texture_loss_by_hand(prediction: Tensor, target: Tensor, loss: float) -> None:
    assert texture_hinge(prediction, target).item() == pytest.approx(loss, abs=1e-6)


def test_texture_grows_along_the_target_only() -> None:
    target = random_images(1, 3, 33, 33)
    faint, noise = 0.2 * target, 0.05 * random_images(1, 3, 33, 33, seed=1)
    prediction = (faint + noise).requires_grad_()
    texture_hinge(prediction, target).backward()
    assert prediction.grad is not None
    step, along = -prediction.grad, target - target.mean()
    assert torch.cosine_similarity(step.flatten(), along.flatten(), dim=0) > 0.7
    assert abs(torch.cosine_similarity(step.flatten(), noise.flatten() - noise.mean(), dim=0)) < 0.1


def test_means_loss_by_hand() -> None:
    """Errors whose mean is 0 in one channel, 0.25 and -0.5 in the others."""
    target = random_images(1, 3, 2, 2)
    error = torch.tensor([[1.0, -1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [-0.5] * 4])
    prediction = target + error.view(1, 3, 2, 2)
    assert means_l1(prediction, target).item() == pytest.approx((0 + 0.25 + 0.5) / 3)


GRAY = random_images(1, 1, 4, 4, seed=1).expand(1, 3, 4, 4)
RED = torch.tensor([1.0, 0.2, 0.2]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
PLAIN = {
    "one colour, the worst channel off by 0.3": (RED, [1.0, 0.3, 0.5], 0.3),
    "one colour, beyond white": (RED, [1.5, 0.2, 0.2], 0.0),
    "gray, a pixel brighter": (GRAY, [0.9, 0.9, 0.9], 0.0),
    "gray, a pixel with a tint": (GRAY, [0.5, 0.9, 0.6], 0.4),
    "a photograph": (random_images(1, 3, 4, 4, seed=1), [1.0, 1.0, 1.0], 0.0),
}
"""Target, what the prediction has instead at one pixel, and the loss of this image."""


@pytest.mark.parametrize(("target", "fault", "loss"), PLAIN.values(), ids=PLAIN)
def test_plain_loss_by_hand(target: Tensor, fault: list[float], loss: float) -> None:
    photograph = random_images(1, 3, 4, 4)
    prediction = target.clone()
    prediction[0, :, 1, 2] = torch.tensor(fault)
    result = plain_max(torch.cat([photograph, prediction]), torch.cat([photograph, target]))
    assert result.item() == pytest.approx(loss / 2)  # The photograph beside it counts as 0.


def test_charbonnier_is_eps_for_equal_images_with_no_gradient() -> None:
    image = random_images(2, 3, 4, 4).requires_grad_()
    loss = charbonnier(image, image.detach())
    loss.backward()
    assert loss.item() == pytest.approx(1e-3)
    assert image.grad is not None
    assert not image.grad.any()


@pytest.mark.parametrize("loss", [l1, charbonnier, gradient_l1, means_l1, plain_max])
def test_pixel_loss_gradcheck(loss) -> None:
    prediction = random_images(2, 3, 10, 10).double().requires_grad_()
    target = random_images(2, 3, 10, 10, seed=1).double()
    assert torch.autograd.gradcheck(loss, (prediction, target))


@pytest.mark.parametrize("loss", [l1, charbonnier, gradient_l1, means_l1, plain_max, texture_hinge])
def test_pixel_loss_is_computed_in_float32(loss) -> None:
    """In bfloat16 the mean of 3000 differences would be off by its third digit."""
    prediction = random_images(1, 3, 32, 32).bfloat16()
    target = random_images(1, 3, 32, 32, seed=1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        result = loss(prediction, target)
    assert result.dtype == torch.float32
    assert result.item() == pytest.approx(loss(prediction.double(), target.double()).item())


@pytest.mark.parametrize("loss", [l1, charbonnier, gradient_l1, means_l1, plain_max, texture_hinge])
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
