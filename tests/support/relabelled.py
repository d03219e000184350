"""A model that no other blends with, though it is as good."""

from __future__ import annotations

from dataclasses import replace

import torch

from swinir_core import Checkpoint


def relabelled(model: Checkpoint) -> Checkpoint:
    """A network that does the same with its deep features in another order, so that no weight is
    where it was: as a stranger that was trained as well."""
    dim = model.config.embed_dim
    order = torch.randperm(dim, generator=torch.Generator().manual_seed(0))
    weights = dict(model.state_dict)
    for key, weight in weights.items():
        axes = [axis for axis, length in enumerate(weight.shape) if length == dim]
        # The heads, of which an attention's output is made, keep their order.
        for axis in axes[:1] if key.endswith("attn.proj.weight") else axes:
            weights[key] = weights[key].index_select(axis, order)
    return replace(model, state_dict=weights)
