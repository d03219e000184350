"""Folders of pictures, read and written one by one by Pillow, which every ComfyUI has."""
