"""Kernels that one Swin layer launches on a GPU and bytes they move, beside the least possible.

    python -m benchmarks.speed.layer_traffic --json benchmarks/results/layer-traffic.json

Nothing runs: operators are counted where PyTorch dispatches them, on tensors without contents. Each
that is no view counts as one kernel that reads its inputs and writes its outputs once, whatever the
caches of a device keep; the attention kernel reads q, k, v and the bias and writes over q.

``least`` is that of five kernels: a product cannot begin before the attention or the product ahead
of it has ended, but norm and conversion could be part of what follows them, GELU, bias and the
addition to the residual stream of what comes before them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import common
from swinir_core import PRESETS, SwinIR, SwinIRConfig
from swinir_core.network.attention import triton_kernel
from swinir_core.network.plan import WindowPlan

MODELS = ("lightweight_sr_x2", "classical_sr_x4", "real_sr_large_x4")
SIZE = (480, 640)
"""Height and width of the features, those of the image in these models."""

META = torch.device("meta")
VIEWS = {"view", "_unsafe_view", "t", "transpose", "permute", "split", "slice", "select", "expand"}
VIEWS |= {"unsqueeze", "detach", "alias", "as_strided", "empty", "new_empty"}


@dataclass
class Traffic:
    """Sums over the kernels of one kind."""

    launches: int = 0
    read: int = 0
    written: int = 0

    def add(self, read: int, written: int) -> None:
        """Count one launch."""
        self.launches += 1
        self.read += read
        self.written += written

    @property
    def bytes(self) -> int:
        return self.read + self.written


class CountTraffic(TorchDispatchMode):
    """Counter of the kernels that operators launch, by the names of the operators."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: dict[str, Traffic] = {}

    def add(self, name: str, read: int, written: int) -> None:
        """Count one kernel."""
        self.kinds.setdefault(name, Traffic()).add(read, written)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in VIEWS:
            # What is overwritten is not read before; in other operators in place it is.
            given = (args[1:] if name == "copy_" else args, kwargs)
            self.add(name, _bytes(given), _bytes(result))
        return result


def _bytes(tree: Any) -> int:
    """Bytes of the different tensors in ``tree``."""
    tensors = {id(leaf): leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}
    return sum(tensor.nbytes for tensor in tensors.values())


@torch.no_grad()  # In inference mode some operators would not be taken apart.
def count(config: SwinIRConfig, dtype: torch.dtype, shifted: bool = False) -> dict[str, Traffic]:
    """Count a layer on a feature map of ``SIZE``, by kinds of kernels, the largest first."""
    layer = SwinIR(config, device=META, dtype=dtype).stages[shifted]
    features = torch.empty(1, config.embed_dim, *SIZE, device=META, dtype=dtype)
    plan = WindowPlan.build(features, config.window_size, keeps_graph=False)
    windows = plan.rows * plan.columns
    x = torch.empty(windows, plan.size**2, config.embed_dim, device=META)
    counter = CountTraffic()

    def attend(qkv: Tensor, bias: Tensor, *_: object) -> Tensor:
        counter.add("attend_window", qkv.nbytes + bias.nbytes, qkv.nbytes // 3)
        return qkv[:, 0]

    with mock.patch.object(triton_kernel, "window_attention_", attend), counter:
        layer.forward_on_the_map(x, layer.attn.position_bias(plan), plan)
    return dict(sorted(counter.kinds.items(), key=lambda kind: -kind[1].bytes))


def least(config: SwinIRConfig, dtype: torch.dtype) -> Traffic:
    """The traffic of five kernels over all tokens: norm and q, k, v; attention; projection and
    addition; norm and first linear layer and GELU; second linear layer and addition."""
    tokens, wide, narrow = SIZE[0] * SIZE[1], 4, dtype.itemsize
    stream, features = tokens * config.embed_dim * wide, tokens * config.embed_dim * narrow
    hidden = tokens * config.hidden_dim * narrow
    traffic = Traffic()
    for read, written in (
        (stream, 3 * features),
        (3 * features, features),
        (features + stream, stream),
        (stream, hidden),
        (hidden + stream, stream),
    ):
        traffic.add(read, written)
    return traffic


def main() -> None:
    parser = common.parser(__doc__)
    args = parser.parse_args()
    results = []
    for model in MODELS:
        for dtype in (torch.bfloat16, torch.float32):
            config = PRESETS[model]
            kinds, fewest = count(config, dtype), least(config, dtype)
            launches = sum(kind.launches for kind in kinds.values())
            moved = sum(kind.bytes for kind in kinds.values())
            ratio = round(moved / fewest.bytes, 2)
            print(
                f"{model} {dtype}: {launches} launches, {moved / 1e6:.0f} MB, {ratio} times the "
                f"least of {fewest.launches} launches, {fewest.bytes / 1e6:.0f} MB"
            )
            for name, kind in kinds.items():
                print(f"    {name:<20}{kind.launches:4} {kind.bytes / moved:6.1%}")
            results.append(
                {
                    "model": model,
                    "precision": str(dtype).removeprefix("torch."),
                    "features": SIZE,
                    "launches": launches,
                    "bytes": moved,
                    "least": {**asdict(fewest), "bytes": fewest.bytes},
                    "times_the_least": ratio,
                    "kinds": {name: asdict(kind) for name, kind in kinds.items()},
                }
            )
    common.write(args.json, {"results": results})


if __name__ == "__main__":
    main()
