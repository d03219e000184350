"""Bounds on what a stranger's model file may claim, far above what any SwinIR needs.

Each is compared with a claim before time or memory is spent on it. SECURITY.md says against what.
"""

from ..network.config import SwinIRConfig

MOST_LAYERS = 1024
"""Swin layers of a network in all; the largest published one has 54."""

MOST_TENSORS = 64 + 21 * MOST_LAYERS
"""A layer has 13 weights and 2 buffers, an RSTB of one layer 6 more."""

LONGEST_INDEX = 8 * 2**20
"""Bytes of a safetensors header or of the directory of a zip file."""

LONGEST_PICKLE = 4 * 2**20
"""Bytes of all pickles in one file. Those of a SwinIR of ``MOST_LAYERS`` have some 3 million, and
no byte of a hostile one costs more than some 80 bytes of memory."""

MOST_ARGUMENTS = 16
"""Arguments of one call in a pickle, whose list can be given to many calls."""

MOST_PAIRS = 100_000
"""Entries of all dictionaries that a pickle makes of lists, each of which can be given again."""

MOST_DIMENSIONS = 16
DEEPEST_WRAPPING = 8
"""Dictionaries around the weights, such as ``{"model": {"state_dict": ...}}``."""

_MOST = {
    **dict.fromkeys(("scale", "start_unshuffle", "window_size"), 64),
    **dict.fromkeys(("img_size", "embed_dim", "hidden_dim", "num_feat"), 65536),
}


def check_size(config: SwinIRConfig) -> None:
    """Raise ``ValueError`` for a network larger than a checkpoint may describe."""
    layers = ("number of Swin layers", sum(config.depths), MOST_LAYERS)
    for name, size, most in (layers, *((n, getattr(config, n), most) for n, most in _MOST.items())):
        if size > most:
            raise ValueError(f"{name} is {size}; at most {most} is possible")
