"""Time and memory of networks, measured beside spandrel's."""
