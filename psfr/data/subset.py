"""Choose the images of a set."""

from collections.abc import Collection, Iterable

from psfr.utils.errors import UserError, join_first
from psfr.utils.seeds import derive_seed


def choose_subset(
    names: Iterable[str], count: int | None, skip: int, seed: int, set_name: str, source: str
) -> list[str]:
    """Choose `count` of the names (None: all) after skipping the first `skip` in an order given by the seed.

    The position of a name in that order depends on the seed and the name alone. So a set that skips as many images as
    another one takes has no image in common with it, however the images are listed.

    Args:
        set_name: The group of params.yaml that asks for the images, for the error message.
        source: The folder or remote that holds the images, for the error message.

    Returns:
        The chosen names, sorted.

    Raises:
        UserError: If there are too few names.
    """
    order = sorted(names, key=lambda name: derive_seed(seed, "choose", name))
    if count is None:
        count = max(len(order) - skip, 1)
    if skip + count > len(order):
        after = f" after the first {skip}" if skip else ""
        hint = f"lower {set_name}.count" + (" or skip" if skip else "")
        raise UserError(f"{source}: {len(order)} images, {set_name} takes {count}{after}: {hint}")
    return sorted(order[skip : skip + count])


def choose_named(names: Collection[str], wanted: Iterable[str], source: str) -> list[str]:
    """Return the true images of a test set: those of `names` that are wanted, sorted.

    Args:
        wanted: The names of the low-quality images.
        source: The folder or remote that holds the true images, for the error message.

    Raises:
        UserError: If low-quality images have no true image; the message names them.
    """
    wanted = sorted(wanted)
    missing = [name for name in wanted if name not in names]
    if missing:
        problem = f"{len(missing)} of {len(wanted)} low-quality images have no true image ({join_first(missing, ', ')})"
        raise UserError(f"{source}: {problem}: name each true image as its low-quality one")
    return wanted
