"""Window attention: one module that chooses, and the ways to compute it."""
