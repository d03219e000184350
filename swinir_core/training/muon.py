"""Muon for the matrices of a network, Adam for all else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) moves a matrix by its averaged
gradient with all singular values made about equal, so that rare directions are learned as fast as
frequent ones. The length of an update is that of Adam's after Liu et al. 2025 (arXiv 2502.16982),
so that both have one learning rate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..network.attention.window_attention import WindowAttention
from ..network.swinir import SwinIR

MATRIX_RATE = 4.0
"""Learning rate of the matrices, as a multiple of the other parameters'; see the trials in
``docs/training/trials.md``."""

MOMENTUM = 0.95

ADAM_LENGTH = 0.2
"""Root mean square of the elements of an update by Adam, in learning rates (Liu et al. 2025)."""

ITERATIONS = 5
COEFFICIENTS = 3.4445, -4.775, 2.0315
"""Of the polynomial in ``orthogonalised``, as tuned by Jordan et al. for few iterations."""


def parameter_groups(model: SwinIR) -> list[dict[str, Any]]:
    """Group the parameters of a network by the number of matrices in each, one above another.

    The weight of a linear layer or of a convolution is one matrix, a row for each output; that of
    queries, keys and values is three. Norms, biases and position tables are none, nor are the
    weights of the first and of the last layer, whose columns or rows are pixels.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    matrices = {layer.weight: 1 for layer in layers[1:-1]}
    for layer in model.modules():
        if isinstance(layer, WindowAttention):
            matrices[layer.qkv.weight] = 3
    groups: dict[int, list[Tensor]] = {0: [], 1: [], 3: []}
    for parameter in model.parameters():
        groups[matrices.get(parameter, 0)].append(parameter)
    return [{"matrices": count, "params": params} for count, params in groups.items()]


class Muon(torch.optim.Optimizer):
    """Muon for groups with ``matrices``, Adam for those with none.

    The gradients are those of the loss itself: a scaler of float16 undoes its scale before.

    Args:
        groups: from ``parameter_groups``; all parameters float32 and contiguous.
        betas: of Adam.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], betas: tuple[float, float]) -> None:
        self.adam = torch.optim.Adam(groups, betas=betas, fused=True)
        super().__init__(groups, self.adam.defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            if group["matrices"]:
                self._step_of_matrices(group)
        # Here, because loading a state replaces both.
        self.adam.param_groups = [group for group in self.param_groups if not group["matrices"]]
        self.adam.state = self.state
        self.adam.step()

    def _step_of_matrices(self, group: dict[str, Any]) -> None:
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            momentum = state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
            nesterov = weight.grad.lerp(momentum, MOMENTUM)
            both = (wide(tensor, group["matrices"]) for tensor in (weight, nesterov))
            for matrix, direction in zip(*both, strict=True):
                alike[matrix.shape].append((matrix, direction))
        for shape, pairs in alike.items():
            matrices, directions = zip(*pairs, strict=True)
            updates = orthogonalised(torch.stack(directions))
            length = MATRIX_RATE * group["lr"] * ADAM_LENGTH * max(shape) ** 0.5
            for matrix, update in zip(matrices, updates, strict=True):
                matrix.sub_(update, alpha=length)


def wide(tensor: Tensor, count: int) -> list[Tensor]:
    """View (rows, ...) as ``count`` matrices (m, n), one above another, turned so that m <= n."""
    parts = tensor.view(len(tensor), -1).chunk(count)
    return [part.mT if part.shape[0] > part.shape[1] else part for part in parts]


def orthogonalised(matrices: Tensor) -> Tensor:
    """Bring the singular values of (B, m, n), m <= n, to 0.5..1.5 and keep the singular vectors.

    Newton-Schulz iterations on a matrix divided by its Frobenius norm. Singular values below some
    thousandth of that norm stay smaller, and zero stays zero.
    """
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
