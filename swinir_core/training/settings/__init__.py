"""The settings of a training run, and the TOML files that hold them."""
