"""Cases that ``test_kernels`` runs through Triton's interpreter, in a process of its own.

The interpreter is chosen by TRITON_INTERPRET when Triton is first imported, so it must not be
chosen in the process of the other tests. ``python -m tests.support.kernel_cases`` prints one JSON
object.
"""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from swinir_core.network.attention import window_attention
from swinir_core.network.attention.window_attention import WindowAttention, differentiable
from swinir_core.network.layers import LayerFactory
from swinir_core.network.plan import WindowPlan
from tests.network.test_swinir import TINY
from tests.support.reference import our_network, reference_network


@dataclass(frozen=True)
class Case:
    size: int
    head_dim: int
    grid: tuple[int, int]
    """Rows and columns of windows."""

    shifted: bool
    batch: int = 1
    heads: int = 1
    dtype: torch.dtype = torch.float32


CASES = {
    "window 8, head 10": Case(8, 10, (3, 5), shifted=False),
    "window 8, head 10, shifted": Case(8, 10, (3, 5), shifted=True),
    "window 8, head 16, one window": Case(8, 16, (1, 1), shifted=False),
    "window 8, head 16, one window, shifted": Case(8, 16, (1, 1), shifted=True),
    "window 8, head 32, one row, shifted": Case(8, 32, (1, 3), shifted=True),
    "window 8, head 30, three images, shifted": Case(8, 30, (2, 2), shifted=True, batch=3),
    "window 7, head 30, two images": Case(7, 30, (1, 2), shifted=False, batch=2, heads=2),
    "window 7, head 30, two images, shifted": Case(7, 30, (2, 3), shifted=True, batch=2, heads=2),
    "window 7, head 10, one column, shifted": Case(7, 10, (3, 1), shifted=True, heads=3),
    "window 7, head 16, shifted": Case(7, 16, (2, 2), shifted=True),
    "window 7, head 32, shifted": Case(7, 32, (2, 2), shifted=True),
    "window 4, shifted": Case(4, 16, (2, 3), shifted=True, heads=2),
    "window 2, shifted": Case(2, 10, (3, 3), shifted=True),
    "window 9, blocks partly empty, shifted": Case(9, 10, (1, 2), shifted=True),
    "window 16, several blocks": Case(16, 32, (1, 1), shifted=False),
    "window 16, several blocks, shifted": Case(16, 32, (2, 1), shifted=True),
    "float16, window 8": Case(8, 32, (1, 2), shifted=False, dtype=torch.float16),
    "float16, window 8, shifted": Case(8, 30, (2, 2), shifted=True, dtype=torch.float16),
    "float16, window 7, shifted": Case(7, 10, (2, 2), shifted=True, dtype=torch.float16),
    "float16, window 16": Case(16, 16, (1, 1), shifted=True, dtype=torch.float16),
    "bfloat16, window 8": Case(8, 10, (1, 2), shifted=False, dtype=torch.bfloat16),
    "bfloat16, window 8, shifted": Case(8, 32, (2, 2), shifted=True, dtype=torch.bfloat16),
    "bfloat16, window 7, shifted": Case(7, 30, (2, 2), shifted=True, dtype=torch.bfloat16),
}


def attention_layer(case: Case) -> WindowAttention:
    """A layer in float64 whose q, k and v are the channels of its input, reordered and with other
    signs, and whose projection changes nothing: what it takes in half precision loses nothing."""
    dim = case.heads * case.head_dim
    layers = LayerFactory(nn, device=None, dtype=torch.float64)
    layer = WindowAttention(dim, case.heads, case.size, qkv_bias=False, layers=layers)
    signs = torch.randn(3 * dim, 1).sign()
    reordered = torch.cat([torch.eye(dim)[torch.randperm(dim)] for _ in range(3)])
    table = torch.randn_like(layer.relative_position_bias_table)
    weights = {
        "qkv.weight": signs * reordered,
        "relative_position_bias_table": table.to(case.dtype),
        "proj.weight": torch.eye(dim),
        "proj.bias": torch.zeros(dim),
    }
    layer.load_state_dict(weights)
    return layer


@torch.no_grad()
def compare(case: Case) -> dict[str, float | bool]:
    """How far the kernel is from the network's own path in float64, and how far it may be."""
    from swinir_core.network.attention.triton_kernel import window_attention_

    torch.manual_seed(0)
    layer = attention_layer(case)
    rows, columns = case.grid
    dim, tokens = case.heads * case.head_dim, case.size**2
    features = torch.empty(case.batch, dim, rows * case.size, columns * case.size).double()
    plan = WindowPlan.build(features, case.size, keeps_graph=True)
    bias = layer.position_bias(plan)
    x = torch.randn(case.batch * rows * columns, tokens, dim).to(case.dtype).double()

    def attend(windows: Tensor, mask: Tensor | None) -> Tensor:
        masked_bias = bias if mask is None else bias + mask
        return layer.by_products(differentiable, windows, masked_bias)

    expected = plan.run(attend, x, case.shifted)
    qkv = layer.qkv(x).view(-1, 3, case.heads, case.head_dim).to(case.dtype)
    before = qkv.clone()
    result = window_attention_(qkv, bias.to(case.dtype), rows, columns, case.size, case.shifted)
    return {
        "error": (result.flatten() - expected.flatten()).abs().max().item(),
        "allowed": allowed(case.dtype, largest=before[:, 2].abs().max().item()),
        "overwrites q": result.data_ptr() == qkv.data_ptr()
        and result.stride() == qkv[:, 0].stride(),
        "keeps k and v": torch.equal(qkv[:, 1:], before[:, 1:]),
    }


@torch.no_grad()
def network_difference(window_size: int) -> float:
    """Between the whole network with the kernel and without, for two images of odd size."""
    config = replace(TINY, window_size=window_size, img_size=2 * window_size)
    model = our_network(config, reference_network(config))
    x = torch.rand(2, 3, 23, 20)
    expected = model(x)
    with mock.patch.object(window_attention, "usable", return_value=True):
        return (model(x) - expected).abs().max().item()


def allowed(dtype: torch.dtype, largest: float) -> float:
    """Sums are float32. In half precision the weights of the average are rounded, and the average:
    each by at most eps / 2 of the largest value, or eps where the interpreter cuts off."""
    if dtype == torch.float32:
        return 1e-5
    cut_off = dtype == torch.bfloat16
    return 1e-5 + torch.finfo(dtype).eps * largest * (2 if cut_off else 1)


def complaint(dtype: torch.dtype) -> str:
    """What the kernel's check of itself has to say, if anything."""
    from swinir_core.network.attention.triton_check import check

    try:
        check(torch.device("cpu"), dtype, size=4, head_dim=10)
    except ArithmeticError as error:
        return str(error)
    return ""


def multiply_bfloat16_as_numbers() -> None:
    """The interpreter keeps bfloat16 as integers of the same bits, and would multiply these."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    create_dot = InterpreterBuilder.create_dot

    def widened(
        self: InterpreterBuilder,
        a: TensorHandle,
        b: TensorHandle,
        d: TensorHandle,
        input_precision: Any,
        max_num_imprecise_acc: Any,
    ) -> TensorHandle:
        if a.dtype.scalar == tl.bfloat16:
            a, b = self.cast_impl(a, tl.float32), self.cast_impl(b, tl.float32)
        return create_dot(self, a, b, d, input_precision, max_num_imprecise_acc)

    InterpreterBuilder.create_dot = widened


def main() -> None:
    importlib.import_module("swinir_core.network.attention.triton_available")
    report: dict[str, object] = {"triton imported by the package": "triton" in sys.modules}
    from swinir_core.network.attention import triton_kernel

    multiply_bfloat16_as_numbers()
    report |= {name: compare(case) for name, case in CASES.items()}
    report |= {f"network, window {size}": network_difference(size) for size in (7, 8)}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        report[f"check {dtype}"] = complaint(dtype)
    triton_kernel.MASKED = 0.0
    report["check without mask"] = complaint(torch.bfloat16)
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
