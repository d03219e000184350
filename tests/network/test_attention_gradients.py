"""Attention whose backward pass is written out gives what autograd gives, and keeps less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swinir_core import SwinIR, SwinIRConfig
from swinir_core.network.attention.window_attention import WindowAttention, differentiable
from swinir_core.network.initialisation import init_weights
from swinir_core.network.layers import LayerFactory
from swinir_core.network.plan import WindowPlan
from swinir_core.network.swin_layer import MLP

TINY = SwinIRConfig(
    scale=2,
    in_channels=3,
    embed_dim=12,
    depths=(2, 2),
    num_heads=(2, 3),
    window_size=4,
    mlp_ratio=2.0,
    upsampler="pixelshuffledirect",
    img_size=16,
)


class Layer(nn.Module):
    """The two branches of a Swin layer with random weights, as they read and as they train."""

    def __init__(
        self, dim: int, heads: int, size: int, qkv_bias: bool, dtype: torch.dtype, batch: int = 2
    ) -> None:
        super().__init__()
        layers = LayerFactory(nn, None, dtype)
        self.norm1, self.norm2 = layers.norm(dim), layers.norm(dim)
        self.attn = WindowAttention(dim, heads, size, qkv_bias, layers)
        self.mlp = MLP(dim, 2 * dim, layers)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)
        features = torch.zeros(batch, dim, 2 * size, 3 * size, dtype=dtype)
        # Parts of four windows leave some over.
        self.plan = replace(WindowPlan.build(features, size, keeps_graph=True), windows_at_once=4)
        self.x = torch.randn(6 * batch, size**2, dim, dtype=dtype, requires_grad=True)
        self.mask = self.plan._masks.to(dtype)

    def plain(self, masked: bool) -> tuple[Tensor, Tensor]:
        bias = self.attn.position_bias(self.plan)
        bias = bias + self.mask if masked else bias
        attended = self.attn.by_products(differentiable, self.norm1(self.x), bias)
        return attended, self.mlp(self.norm2(self.x))

    def trained(self, masked: bool) -> tuple[Tensor, Tensor]:
        bias = self.attn.position_bias(self.plan)
        mask = self.mask if masked else None
        attended = self.attn(self.norm1(self.x), bias, mask, self.plan)
        return attended, self.mlp(self.norm2(self.x))

    def gradients(self, run: Callable[[bool], tuple[Tensor, Tensor]], masked: bool) -> list[Tensor]:
        outputs = run(masked)
        torch.manual_seed(1)
        towards = [torch.randn_like(output) for output in outputs]
        wanted = [self.x, *(each for each in self.parameters() if each.requires_grad)]
        return list(torch.autograd.grad(outputs, wanted, towards))


def assert_close(actual: Tensor, expected: Tensor, relative: float) -> None:
    assert (actual - expected).norm() <= relative * expected.norm()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("qkv_bias", [False, True])
def test_gradients_equal_finite_differences(masked: bool, qkv_bias: bool) -> None:
    layer = Layer(4, 2, 2, qkv_bias, torch.float64, batch=1)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        layer.x = x
        state = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(
            _Call(layer, masked), {f"layer.{k}": v for k, v in state.items()}, ()
        )

    assert torch.autograd.gradcheck(run, (layer.x, *layer.parameters()), fast_mode=True)


class _Call(nn.Module):
    def __init__(self, layer: Layer, masked: bool) -> None:
        super().__init__()
        self.layer = layer
        self.masked = masked

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.layer.trained(self.masked)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("dim", "heads", "size", "qkv_bias"),
    [(60, 6, 8, True), (60, 2, 8, True), (18, 3, 7, False), (12, 1, 4, True), (6, 3, 1, True)],
)
def test_results_and_gradients_equal_those_of_autograd(
    dim: int, heads: int, size: int, qkv_bias: bool, masked: bool
) -> None:
    torch.manual_seed(0)
    layer = Layer(dim, heads, size, qkv_bias, torch.float32)
    for actual, expected in zip(layer.trained(masked), layer.plain(masked), strict=True):
        assert_close(actual, expected, 1e-5)
    trained = layer.gradients(layer.trained, masked)
    for actual, expected in zip(trained, layer.gradients(layer.plain, masked), strict=True):
        assert_close(actual, expected, 1e-5)


def test_large_logits_do_not_overflow() -> None:
    layer = Layer(12, 2, 4, True, torch.float32)
    next(layer.attn.qkv.parameters()).data *= 30
    attended, _ = layer.trained(True)
    assert_close(attended, layer.plain(True)[0], 1e-4)
    trained, plain = layer.gradients(layer.trained, True), layer.gradients(layer.plain, True)
    for actual, expected in zip(trained, plain, strict=True):
        assert_close(actual, expected, 1e-3)


def network_gradients(network: SwinIR, autocast: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(2)
    x, aim = torch.rand(2, 3, 13, 18), torch.rand(2, 3, 26, 36)
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = (network(x) - aim).square().mean()
    loss.backward()
    return {
        name: parameter.grad
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def random_network(config: SwinIRConfig = TINY) -> SwinIR:
    torch.manual_seed(0)
    network = SwinIR(config)
    init_weights(network)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network


@pytest.fixture
def by_autograd(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on networks train by what autograd makes of the equations as they read."""

    def attend(
        self: WindowAttention,
        x: Tensor,
        bias: Tensor,
        mask: Tensor | None,
        plan: WindowPlan,
    ) -> Tensor:
        masked_bias = bias if mask is None else bias + mask
        return self.by_products(differentiable, x.to(plan.dtype), masked_bias)

    return lambda: monkeypatch.setattr(WindowAttention, "forward", attend)


@pytest.mark.parametrize(
    "changes",
    [{}, {"qkv_bias": False}, {"patch_norm": False}, {"window_size": 7, "img_size": 14}],
    ids=str,
)
def test_a_network_trains_as_by_autograd(
    changes: dict[str, Any], by_autograd: Callable[[], None]
) -> None:
    network = random_network(replace(TINY, **changes, mean=None, task="")).train()
    network.set_drop_path(0.5)
    actual = network_gradients(network)
    by_autograd()
    expected = network_gradients(network)
    assert list(actual) == [name for name, _ in network.named_parameters()]
    for name in expected:
        assert_close(actual[name], expected[name], 1e-5)


def test_in_bfloat16_it_is_as_exact_as_autograd(by_autograd: Callable[[], None]) -> None:
    network = random_network()
    exact = network_gradients(network)
    actual = network_gradients(network, autocast=True)
    by_autograd()
    expected = network_gradients(network, autocast=True)

    def error(gradients: dict[str, Tensor]) -> float:
        return sum(((gradients[k] - exact[k]).norm() / exact[k].norm()).item() for k in exact)

    assert 0 < error(actual) < 1.2 * error(expected)


def test_backward_does_not_depend_on_autocast_around_it() -> None:
    layer = Layer(12, 2, 4, True, torch.float32)
    attended, _ = layer.trained(True)
    inputs = [layer.x, *layer.norm1.parameters(), *layer.attn.parameters()]
    expected = torch.autograd.grad(attended.sum(), inputs, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        actual = torch.autograd.grad(attended.sum(), inputs)
    assert all(torch.equal(*pair) for pair in zip(actual, expected, strict=True))


def test_weights_that_are_frozen_get_no_gradient_and_change_none() -> None:
    network = random_network()
    expected = network_gradients(network)
    kept = ("relative_position_bias_table", "norm1.weight", "proj.bias", "fc2.weight")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.endswith(kept))
    actual = network_gradients(network)
    assert list(actual) == [name for name in expected if name.endswith(kept)]
    assert all(torch.equal(actual[name], expected[name]) for name in actual)


def test_a_second_backward_pass_gives_the_same() -> None:
    layer = Layer(12, 2, 4, True, torch.float32)
    loss = torch.stack([each.square().sum() for each in layer.trained(True)]).sum()
    first = torch.autograd.grad(loss, layer.x, retain_graph=True)
    assert torch.equal(torch.autograd.grad(loss, layer.x)[0], first[0])


def test_a_gradient_in_another_order_of_memory_is_understood() -> None:
    layer = Layer(12, 2, 4, True, torch.float32)
    towards = torch.randn(12, 12, 16)
    attended, _ = layer.trained(True)
    expected = torch.autograd.grad(attended, layer.x, towards.mT.contiguous(), retain_graph=True)
    assert torch.equal(torch.autograd.grad(attended, layer.x, towards.mT)[0], expected[0])


def test_derivatives_of_derivatives_are_refused() -> None:
    layer = Layer(12, 2, 4, True, torch.float32)
    attended, _ = layer.trained(False)
    (gradient,) = torch.autograd.grad(attended.square().sum(), layer.x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_probabilities_are_not_kept() -> None:
    layer = Layer(12, 3, 8, True, torch.float32)

    def kept(run: Callable[[bool], tuple[Tensor, Tensor]]) -> int:
        storages: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            outputs = run(False)
        assert outputs[0].grad_fn is not None
        return sum(storages.values())

    probabilities = 4 * 12 * 3 * 64 * 64
    assert kept(layer.plain) > probabilities
    assert kept(layer.trained) < probabilities


def linear(parent: nn.Module, name: str) -> nn.Linear:
    layer = parent.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer


class Casting(nn.Linear):
    """A layer of a host, which keeps its weights in half precision."""

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return nn.functional.linear(input, self.weight.to(input.dtype), bias)


class Adapted(nn.Module):
    """A layer with a small trainable one beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.beside = nn.Linear(base.in_features, base.out_features)
        self.weight, self.bias = base.weight, base.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.beside(x)


def test_layers_of_another_kind_are_called(by_autograd: Callable[[], None]) -> None:
    network = random_network()
    for stage in network.stages:
        for branch, name in ((stage.mlp, "fc1"), (stage.attn, "proj")):
            setattr(branch, name, Adapted(linear(branch, name)))
    actual = network_gradients(network)
    by_autograd()
    expected = network_gradients(network)
    assert any("beside" in name for name in actual)
    for name in expected:
        assert_close(actual[name], expected[name], 1e-5)


def test_layers_that_cast_their_weights_are_called() -> None:
    layer = Layer(12, 2, 4, True, torch.float32)
    for module, name in ((layer.attn, "qkv"), (layer.attn, "proj"), (layer.mlp, "fc1")):
        plain = linear(module, name)
        cast = Casting(plain.in_features, plain.out_features, dtype=torch.float16)
        cast.load_state_dict(plain.state_dict())
        setattr(module, name, cast)
    for actual, expected in zip(layer.trained(True), layer.plain(True), strict=True):
        assert_close(actual, expected, 1e-5)


@pytest.mark.parametrize("register", ["register_forward_hook", "register_full_backward_hook"])
def test_hooks_are_called(register: str) -> None:
    network, called = random_network(), []
    kinds = (nn.Linear, nn.LayerNorm, WindowAttention, MLP)
    modules = [each for each in network.modules() if isinstance(each, kinds)]
    for each in modules:
        getattr(each, register)(lambda module, *_: called.append(module))
    network_gradients(network)
    assert set(called) == set(modules)
