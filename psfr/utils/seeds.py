"""Random numbers that depend on names (an image, an epoch), not on the order of work."""

import hashlib

import numpy as np


def derive_seed(seed: int, *names: object) -> int:
    """Return a 63-bit seed that depends on `seed` and `names` only: the same on all machines and in all processes."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def rng_for(seed: int, *names: object) -> np.random.Generator:
    """Return NumPy's default generator, seeded with `derive_seed(seed, *names)`."""
    return np.random.default_rng(derive_seed(seed, *names))
