"""Write a Stable Diffusion 1.5 with two shallow levels and random weights; its pictures are noise.

HOST_PYTHON tiny_checkpoint.py HOST_FOLDER CHECKPOINT

The host knows a Stable Diffusion 1.5 by its width and counts the levels, so a shallow one loads.
Text encoder and autoencoder have one size only: the file has 0.5 GB all the same.
"""

import json
import sys
from pathlib import Path

import safetensors.torch
import torch

host, target = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(host))

from comfy.cli_args import args  # noqa: E402

args.cpu = True  # Before anything asks which devices there are.

import comfy.ops  # noqa: E402
from comfy.clip_model import CLIPTextModel  # noqa: E402
from comfy.ldm.models.autoencoder import AutoencoderKL  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402

LAYERS = comfy.ops.disable_weight_init

unet = UNetModel(
    image_size=32,
    in_channels=4,
    out_channels=4,
    model_channels=320,
    num_res_blocks=[1, 1],
    channel_mult=(1, 1),
    num_heads=8,
    use_spatial_transformer=True,
    transformer_depth=[1, 0],
    transformer_depth_output=[1, 1, 0, 0],
    transformer_depth_middle=1,
    context_dim=768,
    dtype=torch.float16,
    operations=LAYERS,
)
autoencoder = AutoencoderKL(
    ddconfig={
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 128,
        "ch_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    },
    embed_dim=4,
)
config = json.loads((host / "comfy" / "sd1_clip_config.json").read_text())
text_encoder = CLIPTextModel(config, torch.float16, "cpu", LAYERS)

torch.manual_seed(0)
weights = {}
for prefix, model in (
    ("model.diffusion_model.", unet),
    ("first_stage_model.", autoencoder),
    ("cond_stage_model.transformer.", text_encoder),
):
    for name, weight in model.state_dict().items():
        if name == "text_projection.weight":  # The checkpoints of this model have none.
            continue
        normal = torch.randn(weight.shape) * 0.02
        is_gain = weight.ndim == 1 and name.endswith("weight")
        weights[prefix + name] = (normal + is_gain).half()
safetensors.torch.save_file(weights, target)
