"""The names that people choose by, in nodes and on the command line; where there is a default, it
is the first.

Needs nothing, so that nodes and help are shown before what the names stand for is imported.
"""

from __future__ import annotations

PRECISIONS = ("float32", "bfloat16", "float16")
"""Types to compute in, by their names in torch."""

EDGES = ("network", "mirrored", "wrapped", "wrapped horizontally", "wrapped vertically")
"""``network``: what the network itself puts beyond the edges of an image, mostly black, as the
official one does; ``mirrored``: the image mirrored; ``wrapped``: the opposite edges of the image,
as in a texture, in one direction or both."""

COLORS = ("model", "input")
"""``model``: as the model gives them; ``input``: as they are in the input."""

ALPHAS = ("enlarged", "restored")
"""``enlarged``: alpha is enlarged bicubically; ``restored``: by the model, as a gray image."""

SIZES = ("model", "factor", "longer side", "megapixels")
"""``model``: larger by the model's scale; ``factor``: larger by a number; ``longer side``: that
many pixels; ``megapixels``: that many millions of pixels in all."""

SIZE_VALUE = 2.0
"""Factor, pixels or megapixels where nothing else is set."""

MODES = ("auto", "whole", "tiled")
"""When images are cut: where they do not fit the memory, never, always."""

TILE_SIDE = 768
"""Input pixels of a tile's side where nothing else is set."""

MEAN_NAMES = ("DIV2K", "0.5", "none")
"""Means that trainers subtract from images: of the official colour models, of neosr, of others."""

RANGES = ("1", "255")
"""Ranges to which trainers stretch pixels of 0..1."""

SAMPLES = ("cat", "coffee", "rocket", "astronaut")
"""The bundled photographs."""

TEXTURE = "terrazzo"
"""A picture that is drawn: its opposite edges fit together."""

ALL = "all"
"""In place of a photograph: every one."""
