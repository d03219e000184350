"""A Swin transformer layer, paper section 3.1, figure 2(b)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .attention.triton_available import usable
from .attention.window_attention import WindowAttention
from .config import SwinIRConfig
from .layers import LayerFactory, linear_of_norm
from .windows import WindowPlan


class SwinTransformerLayer(nn.Module):
    """Window attention and an MLP, each after a norm and around a shortcut (equations 5, 6)."""

    drop_path = 0.0
    """How likely a shortcut is all that is left of a branch, in training."""

    def __init__(
        self, config: SwinIRConfig, num_heads: int, shifted: bool, layers: LayerFactory
    ) -> None:
        super().__init__()
        dim = config.embed_dim
        self.shifted = shifted
        self.norm1 = layers.norm(dim)
        self.attn = WindowAttention(dim, num_heads, config.window_size, config.qkv_bias, layers)
        self.norm2 = layers.norm(dim)
        self.mlp = MLP(dim, config.hidden_dim, layers)

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """(windows, N, C) in and out; overwrites ``x`` where no gradients are wanted."""
        bias = self.attn.position_bias(plan)

        def attend(x: Tensor, mask: Tensor | None) -> Tensor:
            return self.attn(x, self.norm1, bias, mask, plan)

        def layer(x: Tensor, mask: Tensor | None) -> Tensor:
            x += attend(x, mask)
            x += self.mlp(x, self.norm2, plan)
            return x

        if plan.keeps_graph:
            x = x + self.dropped(plan.run(attend, x, self.shifted), plan.batch)
            return x + self.dropped(self.mlp(x, self.norm2, plan), plan.batch)
        if usable(x.device, plan.dtype, plan.size, self.attn.head_dim):
            self.run_with_kernel(x, bias, plan)
        else:
            plan.run_in_place(layer, x, self.shifted)
        return x

    def run_with_kernel(self, x: Tensor, bias: Tensor, plan: WindowPlan) -> None:
        """The same in place: the kernel finds the tokens of a window itself, wherever they are, and
        all else knows no windows."""
        at_once = plan.windows_at_once * plan.size**2
        tokens = x.flatten(0, 1)
        qkv = tokens.new_empty(len(tokens), 3 * tokens.shape[1], dtype=plan.dtype)
        for part, part_qkv in zip(tokens.split(at_once), qkv.split(at_once), strict=True):
            part_qkv.copy_(linear_of_norm(part, self.norm1, self.attn.qkv, plan))
        attended = self.attn.attend_map(qkv, bias, plan, self.shifted)
        for part, part_attended in zip(tokens.split(at_once), attended.split(at_once), strict=True):
            part += self.attn.proj(part_attended)
            part += self.mlp(part, self.norm2, plan)

    def dropped(self, branch: Tensor, batch: int) -> Tensor:
        """Stochastic depth (Huang et al. 2016): (windows, N, C) of ``batch`` images, the branch
        zero for some of these and the rest enlarged, so that the mean stays what it is."""
        if not self.training or self.drop_path == 0:
            return branch
        kept = branch.new_empty(batch, 1, 1, 1).bernoulli_(1 - self.drop_path)
        return (branch.unflatten(0, (batch, -1)) * (kept / (1 - self.drop_path))).flatten(0, 1)


class MLP(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden_dim: int, layers: LayerFactory) -> None:
        super().__init__()
        self.fc1 = layers.linear(dim, hidden_dim)
        self.fc2 = layers.linear(hidden_dim, dim)

    def forward(self, x: Tensor, norm: nn.Module, plan: WindowPlan) -> Tensor:
        """(..., C) tokens, normalised by ``norm`` first, to the same."""
        return self.fc2(F.gelu(linear_of_norm(x, norm, self.fc1, plan)))
