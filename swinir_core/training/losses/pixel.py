"""Pixel and adversarial losses of the paper's recipes.

Every loss is a scalar tensor, computed in float32 or wider whatever autocast says. SwinIR trains
classical and lightweight super-resolution by ``l1``, denoising and JPEG artefact reduction by
``charbonnier`` (paper section 3.1, "Loss function"), and real-world super-resolution by
``l1 + PerceptualLoss + 0.1 * generator_loss`` (the weights of ``real_sr_x4_gan.toml``).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error, ``mean |prediction - target|``.

    Two tensors of the same shape. Raises ``ValueError`` when the shapes differ.
    """
    prediction, target = same_shape(prediction, target)
    return (prediction - target).abs().mean()


def charbonnier(prediction: Tensor, target: Tensor, eps: float = 1e-3) -> Tensor:
    """Charbonnier loss, ``mean sqrt((prediction - target)^2 + eps^2)``.

    Square far below ``eps``, absolute far above it; ``eps`` is also its value for equal images.
    The paper's is 1e-3; the reference training code's ``sqrt(d^2 + 1e-9)`` is ``eps=3.16e-5``.

    Two tensors of the same shape. Raises ``ValueError`` when the shapes differ or ``eps`` is not
    positive.
    """
    if not eps > 0:
        raise ValueError(f"the eps of the Charbonnier loss must be positive, got {eps}")
    prediction, target = same_shape(prediction, target)
    return ((prediction - target).square() + eps**2).sqrt().mean()


def gradient_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbouring pixels, the mean over both axes:
    ``mean |grad prediction - grad target|``.

    Two tensors (B, C, H, W) of the same shape, at least 2x2 pixels. Raises ``ValueError`` when the
    shapes differ.
    """
    prediction, target = same_shape(prediction, target)
    error = prediction - target
    return (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2


TEXTURE_BLOCK = 8
"""Side in pixels of the blocks in which ``texture_hinge`` compares the strength of texture."""

_FAINT = 1e-3
"""Strength of texture, in 0..1, that is next to none: a quarter of a level of 8 bits."""


def texture_hinge(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean lack of texture along that of the target, ``mean max(c |t| - g.t / |t|, 0)`` over blocks
    of 8x8 pixels.

    g and t are the differences of neighbouring pixels in a block of prediction and target, along
    both axes and in all channels; g.t is their mean product, ``|t|`` the root of the mean of t.t,
    and ``c = g.t / (|g| |t|)``, at least 0, their correlation. The loss of a block is 0 where the
    prediction has as much texture as the target, or none in common with it.

    ``l1`` and ``gradient_l1`` answer doubt with a blur, and this makes what is right about that
    blur stronger. A fine checkerboard or hatching, with which a network satisfies a loss that asks
    for strength alone, is not rewarded.

    Two tensors (B, C, H, W) of the same shape, more than 8 pixels a side. Raises ``ValueError``
    when the shapes differ.
    """
    g, t = map(_differences, same_shape(prediction, target))
    strength = _block_means(t * t).sqrt()
    along = _block_means(g * t) / strength.clamp(min=_FAINT)
    # A constant, or a network would do well to have less in common with the target.
    correlation = along.detach() / _block_means(g * g).detach().sqrt().clamp(min=_FAINT)
    return (correlation.clamp(0, 1) * strength - along).clamp(min=0).mean()


def _differences(image: Tensor) -> Tensor:
    """Differences of neighbouring pixels, along rows and columns, (B, 2, C, H - 1, W - 1)."""
    return torch.stack([image.diff(dim=-1)[..., :-1, :], image.diff(dim=-2)[..., :-1]], 1)


def _block_means(values: Tensor) -> Tensor:
    """Means over blocks and all dimensions but the first and the last two, (B, H / 8, W / 8)."""
    return F.avg_pool2d(values.flatten(1, -3).mean(1), TEXTURE_BLOCK)


def means_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of the means of each channel of each image.

    ``l1`` and ``charbonnier`` settle on the median of what an input may have come from, whose mean
    over a picture is another than the target's: its colours shift. This term holds them.

    Two tensors (B, C, H, W) of the same shape. Raises ``ValueError`` when the shapes differ.
    """
    prediction, target = same_shape(prediction, target)
    return (prediction - target).mean(dim=(-2, -1)).abs().mean()


def plain_max(prediction: Tensor, target: Tensor) -> Tensor:
    """Largest error of each plain image, the mean over all images: where the target has one colour
    the largest ``|prediction - target|``, where it is gray the largest difference between channels
    of one pixel. Other images count as 0, and what lies outside 0..1 as if cut off.

    The corners of a flat image are a few pixels of thousands, which a mean over all of them moves
    next to nothing; a maximum moves nothing else until they are right.

    Two tensors (B, C, H, W) of the same shape. Raises ``ValueError`` when the shapes differ.
    """
    prediction, target = same_shape(prediction, target)
    shown = prediction.clamp(0, 1)
    flat = (target == target[:, :, :1, :1]).flatten(1).all(1)
    gray = (target == target[:, :1]).flatten(1).all(1)
    error = (shown - target).abs().amax((1, 2, 3))
    tint = (shown.amax(1) - shown.amin(1)).amax((1, 2))
    return torch.where(flat, error, tint * gray).mean()


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Adversarial loss of the generator, ``mean log(1 + exp(-fake_logits))``.

    Binary cross-entropy of the discriminator's logits, of any shape, against 1 (Goodfellow et al.
    2014, the non-saturating form of section 3).
    """
    return F.softplus(-_wide(fake_logits)).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Loss of the discriminator,
    ``mean log(1 + exp(-real_logits)) + mean log(1 + exp(fake_logits))``.

    Binary cross-entropy of logits, of any shape, against 1 for photographs and 0 for the
    generator's images (Goodfellow et al. 2014, equation 1); a sum, not a mean, as in the reference
    training code. Detach the generator's images before the discriminator judges them.
    """
    return F.softplus(-_wide(real_logits)).mean() + F.softplus(_wide(fake_logits)).mean()


def same_shape(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Convert both to float32 or wider. Raises ``ValueError`` rather than broadcast."""
    if prediction.shape != target.shape:
        raise ValueError(
            "prediction and target must have the same shape, got "
            f"{tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    return _wide(prediction), _wide(target)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
