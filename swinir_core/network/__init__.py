"""SwinIR itself (Liang et al. 2021, arXiv 2108.10257), from the configuration to the pixels."""
