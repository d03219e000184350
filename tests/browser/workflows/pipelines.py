"""Examples with large pictures, many pictures, and models and nodes of the host."""

from __future__ import annotations

from .graph import (
    COFFEE,
    COLLAR,
    LEAST_WIDTH,
    MIDDLE,
    ROCKET,
    SPOON,
    WHISKERS,
    Node,
    Workflow,
)
from .parts import (
    DENOISE,
    ESRGAN,
    ESRGAN_PAGE,
    MORE_MODELS,
    OWN_PICTURE,
    X2,
    X4,
    after,
    before,
    enlarged,
    model,
    preview,
    restore,
    sample,
    simple,
)

LARGE_IMAGE_TILES = Workflow(
    "08 Large picture in tiles",
    f"""
# A large picture in tiles

Press **Run** and watch the noise vanish tile by tile on **Upscale or Restore (SwinIR)**.

**SwinIR Tile Settings**

- *mode*: *auto* cuts only what does not fit the memory, and is best for most pictures. *tiled* \
always cuts, as in this example. *whole* never cuts.
- *tile width*, *tile height*: the greatest size of a tile. 160 is small, to show tiles on a \
small sample. For pictures of your own use 512 or more: larger tiles compute fewer pixels twice. \
Lower them when the memory runs out.
- *overlap*: 0 finds what the model needs for no seam to show.
- *memory budget*: megabytes that a run may take in the mode *auto*; 0 for all that is free.

{OWN_PICTURE}
""",
    (
        (
            (
                sample("astronaut", noise=25),
                Node(
                    "tiles",
                    "SwinIRTileSettings",
                    values={"mode": "tiled", "tile_width": 160, "tile_height": 160},
                ),
                model(DENOISE),
            ),
            (restore(tile_settings="tiles.tile_settings"), before()),
            (after(),),
        ),
    ),
    focus=COLLAR,
)

BATCH = Workflow(
    "09 Several pictures at once",
    """
# Several pictures at once

Press **Run**. A batch of four noisy pictures is restored by one **Upscale or Restore (SwinIR)**, \
and saved one by one. Small pictures are run together where that is faster.

Then delete **SwinIR Sample Image** and connect anything else that gives a batch: a node that \
reads a folder, the decoded pictures of a sampler, the frames of a video.

The pictures of a batch have one size. For pictures of different sizes there is **Upscale or \
Restore Folder (SwinIR)**: see the example *A folder of pictures*.
""",
    (
        (
            (sample("all", noise=25), model(DENOISE)),
            (restore(), before()),
            (after(),),
        ),
    ),
    focus=MIDDLE,
)

VIDEO = Workflow(
    "10 Restore a video",
    f"""
# Restore a video

Press **Run**. The sample picture is made into a short noisy video. **Upscale or Restore Video \
(SwinIR)** cleans it and **Save Video** puts it into the folder *output/video*.

**Your own video**

1. **Load Video**: choose or upload it, then click the title of the node and press Ctrl+M to \
switch it on.
2. Connect it to **Upscale or Restore Video (SwinIR)**.
3. Keep **Load Video**, **Load SwinIR Model**, **Upscale or Restore Video (SwinIR)** and **Save \
Video**, and delete the rest: nodes that show a frame would read the whole video into memory.

It may be of any length: a few frames are in memory at a time. Sound, speed and colors are kept. \
If you stop it, the console says where the part that is done lies.

**Load SwinIR Model**: *{DENOISE}* removes noise; *{X2}* doubles the size.

**Upscale or Restore Video (SwinIR)**: *quality (CRF)* and *codec* say how it is saved; leave them \
for a file that plays everywhere.

{MORE_MODELS}
""",
    (
        (
            (
                sample("coffee", noise=20, frames=12),
                Node(
                    "made", "CreateVideo", "Sample video", {"fps": 8.0}, {"images": "sample.image"}
                ),
                Node("load", "LoadVideo", values={"file": ""}, room=(LEAST_WIDTH, 110), muted=True),
                model(DENOISE),
            ),
            (
                Node("frame", "ImageFromBatch", "A frame before", links={"image": "sample.image"}),
                Node(
                    "restore",
                    "SwinIRRestoreVideo",
                    links={"upscale_model": "model.UPSCALE_MODEL", "video": "made.VIDEO"},
                ),
            ),
            (
                # Low enough for the link to the picture before to pass above.
                Node(
                    "save",
                    "SaveVideo",
                    values={"filename_prefix": "video/SwinIR"},
                    links={"video": "restore.VIDEO"},
                    above=70,
                ),
                Node("parts", "GetVideoComponents", links={"video": "restore.VIDEO"}),
                Node("same", "ImageFromBatch", "The same after", links={"image": "parts.images"}),
            ),
            (before("frame.IMAGE"), preview("after", "same.IMAGE", "After")),
        ),
    ),
    focus=SPOON,
)

OUR_MODEL_IN_HOST_NODE = Workflow(
    "11 SwinIR in the built-in upscale node",
    f"""
# A SwinIR in the node that comes with ComfyUI

Press **Run**. **Load SwinIR Model** gives an ordinary upscale model. It works in **Upscale Image \
(using Model)** and in any other node that takes one.

It also loads files that **Load Upscale Model** does not recognise, and the bundled models.

**Upscale or Restore (SwinIR)** in place of **Upscale Image (using Model)** is faster, also takes \
gray pictures and pictures with transparency, and needs no tiles while the memory is large enough.

{OWN_PICTURE}
""",
    (
        (
            (sample("coffee"), model(X2)),
            *enlarged(
                2,
                Node(
                    "restore",
                    "ImageUpscaleWithModel",
                    links={"upscale_model": "model.UPSCALE_MODEL", "image": "sample.image"},
                ),
            ),
        ),
    ),
    focus=COFFEE,
)

HOST_MODEL_IN_OUR_NODE = Workflow(
    "12 Any upscale model in the SwinIR node",
    f"""
# Any upscale model in the SwinIR node

1. Put an upscale model of any architecture into *models/upscale_models*, such as *{ESRGAN}*, and \
press **R**.
2. **Load Upscale Model**: choose it.
3. Press **Run**.

**Upscale or Restore (SwinIR)** shows the picture while it is made, cuts it into tiles only where \
the memory is short, and keeps transparency, whatever the architecture. A SwinIR file runs on the \
faster network of this pack.

{OWN_PICTURE}
""",
    (
        (
            (
                sample("cat"),
                Node(
                    "model",
                    "UpscaleModelLoader",
                    values={"model_name": ESRGAN},
                    download=ESRGAN_PAGE,
                ),
            ),
            *enlarged(4, restore()),
        ),
    ),
    focus=WHISKERS,
    stand_in=simple("", "", X4, "cat", WHISKERS),
)

FOLDER = Workflow(
    "15 A folder of pictures",
    f"""
# A folder of pictures

Press **Run**. **Upscale or Restore Folder (SwinIR)** restores the sample pictures that come with \
the pack, one after another, and saves them under their names in *output/restored*. Only one is in \
memory at a time, so a folder of hundreds, of any sizes, needs no more than its largest picture.

**Your own folder**

1. Copy it into the *input* folder of ComfyUI and press **R**.
2. **Upscale or Restore Folder (SwinIR)**: choose it in *folder*.

**existing files**: nothing is overwritten; a second run writes *cat_2.png*. Choose *skip* to go \
on where a run was cancelled.

**With other nodes in between**: **SwinIR Load Folder** gives the pictures and their names one by \
one, and **SwinIR Save Folder** saves what became of them. There all pictures are in memory at \
once; *pictures at once* takes a part of them. Here they enlarge the samples plainly, to compare, \
into *output/plain*; delete the three nodes if you do not want that.

{MORE_MODELS}
""",
    (
        (
            (model(X2),),
            (
                Node(
                    "after",
                    "SwinIRRestoreFolder",
                    values={"folder": "bundled/samples"},
                    links={"upscale_model": "model.UPSCALE_MODEL"},
                ),
            ),
            (
                Node("load", "SwinIRLoadFolder", values={"folder": "bundled/samples"}),
                Node(
                    "plain",
                    "ImageScaleBy",
                    "Enlarged without a model",
                    {"upscale_method": "bicubic", "scale_by": 2.0},
                    {"image": "load.images"},
                ),
                Node(
                    "before",
                    "SwinIRSaveFolder",
                    values={"save_in": "plain"},
                    links={"images": "plain.IMAGE", "names": "load.names"},
                ),
            ),
        ),
    ),
    focus=ROCKET,
)
