"""SwinIR Restore for ComfyUI. Nothing is imported before the host asks for the nodes."""

WEB_DIRECTORY = "./nodes/web"


async def comfy_entrypoint():
    """The extension the host loads; its nodes are listed in ``nodes``."""
    from .nodes import SwinIRExtension

    return SwinIRExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
