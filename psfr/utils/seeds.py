"""Randomness that belongs to a name, not to an order of work."""

import hashlib

import numpy as np


def seed_of(seed: int, *names: object) -> int:
    """A 63-bit seed that depends on `seed` and the names alone, the same on every machine and in every process."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *names: object) -> np.random.Generator:
    """NumPy's generator seeded by `seed_of`."""
    return np.random.default_rng(seed_of(seed, *names))
