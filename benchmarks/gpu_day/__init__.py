"""Everything there is to measure on a GPU, in one command; see ``__main__``."""
