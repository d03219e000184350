"""Perceptual loss: how far two images are apart in the features of VGG19."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checkpoints.containers import read_tensors
from ...errors import CheckpointError
from .pixel import l1, same_shape

TORCHVISION_FILE = "vgg19-dcbb9e9d.pth"
"""Under which torchvision keeps its ImageNet weights of VGG19."""

LAYER_WEIGHTS = {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0}
"""Weight of each compared layer, by its index in torchvision's ``vgg19().features``: conv1_2,
conv2_2, conv3_4, conv4_4 and conv5_4, the last convolution of each stage."""

# The 3x3 convolutions of each stage under the same indices. Every one is followed by a ReLU, every
# stage by a maximum over 2x2 pixels.
_STAGES = ((0, 2), (5, 7), (10, 12, 14, 16), (19, 21, 23, 25), (28, 30, 32, 34))
_SMALLEST = 2 ** (len(_STAGES) - 1)

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class PerceptualLoss(nn.Module):
    """``sum_l w_l * mean |VGG_l(prediction) - VGG_l(target)|`` over the layers of LAYER_WEIGHTS.

    Features before activation, as in ESRGAN (Wang et al. 2018, section 3.3), of images normalised
    by ImageNet's mean and deviation; layers and weights are those SwinIR's real-world model was
    trained with. The features are frozen, no part of the state dict, and computed in float32 even
    under autocast.

    Args:
        weights: a local .pth or .safetensors file of torchvision's VGG19, the whole model or
            ``features`` alone; its channel counts are taken from the file. None: the file that
            torchvision downloads, where it is in the ``checkpoints`` folder of ``torch.hub``.
            Nothing is downloaded here.

    Raises:
        FileNotFoundError: without ``weights``, where torchvision has downloaded none.
        CheckpointError: ``weights`` cannot be read or is not a VGG19.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        path = _torchvision_file() if weights is None else Path(weights)
        for name, tensor in _read_vgg(path).items():
            self.register_buffer(_buffer_name(name), tensor, persistent=False)
        for name, values in (("mean", _IMAGENET_MEAN), ("std", _IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Two tensors (B, C, H, W) in 0..1, C of 1 (gray, repeated) or 3, to a scalar.

        The gradient reaches the prediction only. Raises ``ValueError`` for other shapes and for
        sides below 16 pixels.
        """
        prediction, target = same_shape(prediction, target)
        if prediction.ndim != 4 or prediction.shape[1] not in (1, 3):
            raise ValueError(f"expected images (B, 1 or 3, H, W), got {tuple(prediction.shape)}")
        if min(prediction.shape[-2:]) < _SMALLEST:
            raise ValueError(
                f"the perceptual loss needs at least {_SMALLEST}x{_SMALLEST} pixels, "
                f"got {prediction.shape[-2]}x{prediction.shape[-1]}; train on larger patches"
            )
        with torch.autocast(prediction.device.type, enabled=False):
            with torch.no_grad():
                wanted = self._features(target)
            layers = zip(LAYER_WEIGHTS.values(), self._features(prediction), wanted, strict=True)
            return torch.stack([weight * l1(ours, theirs) for weight, ours, theirs in layers]).sum()

    def _features(self, image: Tensor) -> list[Tensor]:
        """The last convolution of each stage, before its ReLU."""
        mean = self.get_buffer("mean")
        x = (image.to(mean.dtype) - mean) / self.get_buffer("std")  # gray becomes three channels
        features = []
        for stage in _STAGES:
            if features:
                x = F.max_pool2d(F.relu(x), 2)
            for index in stage:
                if index != stage[0]:
                    x = F.relu(x)
                weight = self.get_buffer(_buffer_name(f"{index}.weight"))
                x = F.conv2d(x, weight, self.get_buffer(_buffer_name(f"{index}.bias")), padding=1)
            features.append(x)
        return features


def _buffer_name(name: str) -> str:
    return "features_" + name.replace(".", "_")


def _torchvision_file() -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / TORCHVISION_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"the perceptual loss found no VGG19 weights: put torchvision's {TORCHVISION_FILE} "
            f"into {path.parent} (torchvision.models.vgg19(weights='IMAGENET1K_V1') downloads it "
            f"there), or name a local .pth or .safetensors file of these weights"
        )
    return path


def _read_vgg(path: Path) -> dict[str, Tensor]:
    """The weights and biases in ``_STAGES`` as float32, named ``0.weight``, ``0.bias``, ..."""
    tensors = read_tensors(path).weights
    found = {k.removeprefix("features."): v for k, v in tensors.items() if not v.is_meta}
    names = [f"{i}.{kind}" for stage in _STAGES for i in stage for kind in ("weight", "bias")]
    missing = [name for name in names if name not in found]
    if missing:
        raise CheckpointError(
            f"{path} is not torchvision's VGG19: it has no features.{missing[0]}."
        )
    # Copied, because the tensors of read_tensors keep the file mapped.
    weights = {name: found[name].to(torch.float32, copy=True) for name in names}
    channels = 3
    for name, tensor in weights.items():
        shape = tuple(tensor.shape)
        expected = (*shape[:1], channels, 3, 3) if name.endswith(".weight") else (channels,)
        if shape != expected:
            raise CheckpointError(
                f"{path} is not torchvision's VGG19: {name} has shape {shape}, {expected} expected."
            )
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name} holds NaN or infinite values; fetch it again.")
        channels = shape[0]
    return weights
