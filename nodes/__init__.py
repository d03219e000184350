"""The nodes. Only this package knows ComfyUI, and of it only ``host`` speaks to its internals."""

from comfy_api.latest import ComfyExtension, io

from . import host
from .blend_models import SwinIRBlendModels
from .image_quality import SwinIRImageQuality
from .load_folder import SwinIRLoadFolder
from .look_at_image import SwinIRLookAtImage
from .model_loader import SwinIRModelLoader
from .restore import SwinIRRestore
from .restore_folder import SwinIRRestoreFolder
from .restore_video import SwinIRRestoreVideo
from .sample_image import SwinIRSampleImage
from .save_folder import SwinIRSaveFolder
from .save_model import SwinIRSaveModel
from .tile_settings import SwinIRTileSettings


class SwinIRExtension(ComfyExtension):
    """A node is one file and one entry in this list."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        host.register_model_folder()
        return [
            SwinIRModelLoader,
            SwinIRTileSettings,
            SwinIRRestore,
            SwinIRSampleImage,
            SwinIRImageQuality,
            SwinIRLookAtImage,
            SwinIRSaveModel,
            SwinIRBlendModels,
            SwinIRRestoreFolder,
            SwinIRLoadFolder,
            SwinIRSaveFolder,
            SwinIRRestoreVideo,
        ]
