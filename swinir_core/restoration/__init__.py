"""Images through a model: planning, tiles, batches, masks, memory, progress."""
