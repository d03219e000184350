"""Low-quality images made from good ones, for training, evaluation and examples."""
