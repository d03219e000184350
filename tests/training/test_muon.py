"""Muon against a slow reference, and which parameters it takes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from swinir_core.network.config import SwinIRConfig
from swinir_core.network.initialisation import init_weights
from swinir_core.network.swinir import SwinIR
from swinir_core.training.muon import (
    ADAM_LENGTH,
    MATRIX_RATE,
    Muon,
    orthogonalised,
    parameter_groups,
)
from tests.training.runs import random_images

RATE, BETAS = 1e-2, (0.9, 0.99)


def network(upsampler: str = "pixelshuffledirect", resi: str = "1conv") -> SwinIR:
    scale = 1 if upsampler == "none" else 4
    config = SwinIRConfig(scale, 3, 8, (2,), (2,), 4, 2.0, upsampler, resi, num_feat=6)
    model = SwinIR(config)
    init_weights(model, seed=0)
    return model


def random_gradients(model: SwinIR, steps: int) -> list[dict[str, Tensor]]:
    """Gradients of all parameters by name, for each step."""
    generator = torch.Generator().manual_seed(0)
    return [
        {
            name: torch.randn(weight.shape, generator=generator)
            for name, weight in model.named_parameters()
        }
        for _ in range(steps)
    ]


def take_steps(
    model: SwinIR, optimizer: torch.optim.Optimizer, gradients: list[dict[str, Tensor]]
) -> None:
    for gradient in gradients:
        for name, weight in model.named_parameters():
            weight.grad = gradient[name].clone()
        optimizer.step()


def muon(model: SwinIR) -> Muon:
    optimizer = Muon(parameter_groups(model), BETAS)
    for group in optimizer.param_groups:
        group["lr"] = RATE
    return optimizer


def matrices_of(name: str, tensor: Tensor) -> list[Tensor]:
    rows = tensor.flatten(1)
    return list(rows.chunk(3)) if name.endswith("qkv.weight") else [rows]


def assert_orthogonalised(result: Tensor, given: Tensor) -> None:
    """Assert the singular vectors of ``given``, and singular values of 0.5 to 1.5."""
    u, _, vh = torch.linalg.svd(given.double(), full_matrices=False)
    along = u.mT @ result.double() @ vh.mT
    values = along.diagonal(dim1=-2, dim2=-1)
    assert values.min() > 0.5
    assert values.max() < 1.5
    torch.testing.assert_close(result.double(), u @ values.diag_embed() @ vh, rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 5), (8, 8), (48, 48), (48, 96), (48, 432)])
def test_singular_values_become_alike_and_vectors_stay(shape: tuple[int, int]) -> None:
    u, _, vh = torch.linalg.svd(random_images(3, *shape) - 0.5, full_matrices=False)
    values = torch.logspace(0, -1.5, shape[0]) * torch.tensor([1e-4, 1, 1e4])[:, None]
    matrices = u @ values.diag_embed() @ vh
    assert_orthogonalised(orthogonalised(matrices), matrices)


def test_a_matrix_of_zeros_stays() -> None:
    assert not orthogonalised(torch.zeros(2, 4, 6)).any()


def test_a_step_moves_every_matrix_by_its_averaged_gradient_made_orthogonal() -> None:
    model = network()
    gradients = random_gradients(model, 2)
    optimizer = muon(model)
    take_steps(model, optimizer, gradients[:1])
    before = copy.deepcopy(model).state_dict()
    take_steps(model, optimizer, gradients[1:])
    first, second = gradients
    moved = {id(weight) for group in optimizer.param_groups[1:] for weight in group["params"]}
    for name, weight in model.named_parameters():
        if id(weight) not in moved:
            continue
        average = 0.95 * 0.05 * first[name] + 0.05 * second[name]
        wanted = 0.05 * second[name] + 0.95 * average
        step = (before[name] - weight.detach()) / (RATE * MATRIX_RATE * ADAM_LENGTH)
        pairs = (matrices_of(name, tensor) for tensor in (step, wanted))
        for matrix, direction in zip(*pairs, strict=True):
            assert_orthogonalised(matrix / max(matrix.shape) ** 0.5, direction)


def test_all_else_moves_as_by_adam() -> None:
    ours, theirs = network(), network()
    gradients = random_gradients(ours, 3)
    optimizer = muon(ours)
    take_steps(ours, optimizer, gradients)
    take_steps(theirs, torch.optim.Adam(theirs.parameters(), RATE, BETAS, fused=True), gradients)
    others = {id(weight) for weight in optimizer.param_groups[0]["params"]}
    same = [
        name
        for (name, weight), other in zip(ours.named_parameters(), theirs.parameters(), strict=True)
        if torch.equal(weight, other)
    ]
    assert same == [name for name, weight in ours.named_parameters() if id(weight) in others]


LAYERS = {"attn.proj": 1, "attn.qkv": 3, "mlp.fc1": 1, "mlp.fc2": 1}
BLOCKS = {
    f"layers.0.residual_group.blocks.{block}.{layer}": count
    for block in range(2)
    for layer, count in LAYERS.items()
}
BODY = BLOCKS | {"layers.0.conv": 1, "conv_after_body": 1}
BOTTLENECKS = {f"{at}.{i}": 1 for at in ("layers.0.conv", "conv_after_body") for i in (0, 2, 4)}
HEAD = BODY | {"conv_before_upsample.0": 1}
TAKEN = {
    # name: upsampler, residual connection, matrices of each layer that Muon updates
    "x4, light": ("pixelshuffledirect", "1conv", BODY),
    "x4": ("pixelshuffle", "1conv", HEAD | {"upsample.0": 1, "upsample.2": 1}),
    "real x4": ("nearest+conv", "1conv", HEAD | {"conv_up1": 1, "conv_up2": 1, "conv_hr": 1}),
    "denoising": ("none", "1conv", BODY),
    "bottlenecks": ("none", "3conv", BLOCKS | BOTTLENECKS),
}


@pytest.mark.parametrize(("upsampler", "resi", "layers"), TAKEN.values(), ids=TAKEN)
def test_muon_takes_the_weights_between_the_first_and_the_last_layer(
    upsampler: str, resi: str, layers: dict[str, int]
) -> None:
    model = network(upsampler, resi)
    names = {id(weight): name for name, weight in model.named_parameters()}
    groups = {group["matrices"]: group["params"] for group in parameter_groups(model)}
    taken = {names[id(w)]: count for count, weights in groups.items() for w in weights if count}
    assert taken == {f"{name}.weight": count for name, count in layers.items()}
    assert sum(map(len, groups.values())) == len(names)


def test_scaled_gradients_of_float16_are_unscaled_and_infinite_ones_passed_over() -> None:
    plain, scaled = network(), network()
    gradients = random_gradients(plain, 2)
    take_steps(plain, muon(plain), gradients)
    optimizer, scaler = muon(scaled), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    infinite = {name: gradient * torch.inf for name, gradient in gradients[0].items()}
    for gradient in (gradients[0], infinite, gradients[1]):
        scale = scaler.scale(torch.ones(()))
        for name, weight in scaled.named_parameters():
            weight.grad = gradient[name] * scale
        scaler.step(optimizer)
        scaler.update()
    for ours, theirs in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert torch.equal(ours, theirs)
