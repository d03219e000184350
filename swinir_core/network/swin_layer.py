"""A Swin transformer layer, paper section 3.1, figure 2(b)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .attention.window_attention import WindowAttention
from .config import SwinIRConfig
from .layers import LayerFactory
from .plan import WindowPlan


class SwinTransformerLayer(nn.Module):
    """Window attention and an MLP, each after a norm and around a shortcut (equations 5 and 6)."""

    drop_path = 0.0
    """Probability in training that a shortcut is all that is left of a branch."""

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
        """(windows, N, C) of the residual stream in and out, over ``x`` where no gradients are
        wanted."""
        bias = self.attn.position_bias(plan)
        if self.attn.runs_on_the_map(plan):
            return self.forward_on_the_map(x, bias, plan)

        def layer(x: Tensor, mask: Tensor | None) -> Tensor:
            x = plan.add(x, self.dropped(self.attn(self.norm1(x), bias, mask, plan), plan))
            return plan.add(x, self.dropped(self.mlp(self.norm2(x).to(plan.dtype)), plan))

        return plan.run(layer, x, self.shifted)

    def forward_on_the_map(self, x: Tensor, bias: Tensor, plan: WindowPlan) -> Tensor:
        """Run attention by the GPU kernel, which finds the tokens of a window wherever they lie.

        It needs q, k and v of all tokens; norms, projections and the MLP know no windows and run
        over slices of the tokens, in place.
        """
        at_once = plan.windows_at_once * plan.size**2
        tokens = x.flatten(0, 1)
        qkv = tokens.new_empty(len(tokens), 3 * tokens.shape[1], dtype=plan.dtype)
        for part, part_qkv in zip(tokens.split(at_once), qkv.split(at_once), strict=True):
            part_qkv.copy_(self.attn.qkv(self.norm1(part).to(plan.dtype)))
        attended = self.attn.attend_map(qkv, bias, plan, self.shifted)
        for part, part_attended in zip(tokens.split(at_once), attended.split(at_once), strict=True):
            part += self.attn.proj(part_attended)
            part += self.mlp(self.norm2(part).to(plan.dtype))
            plan.sweeps.advance(len(part) / len(tokens))
        return x

    def dropped(self, branch: Tensor, plan: WindowPlan) -> Tensor:
        """Stochastic depth (Huang et al. 2016): zero the branch (windows, N, C) for some images and
        enlarge the rest, so that its mean stays what it is."""
        if not self.training or self.drop_path == 0:
            return branch
        kept = branch.new_empty(plan.batch, 1, 1).bernoulli_(1 - self.drop_path)
        return branch * (kept / (1 - self.drop_path))[plan.images(self.shifted)]


class MLP(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden_dim: int, layers: LayerFactory) -> None:
        super().__init__()
        self.fc1 = layers.linear(dim, hidden_dim)
        self.fc2 = layers.linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) tokens in and out."""
        return self.fc2(F.gelu(self.fc1(x)))
