"""Which of many images an experiment takes."""

from collections.abc import Iterable

from psfr.utils.errors import InputError
from psfr.utils.seeds import seed_of


def chosen(names: Iterable[str], count: int | None, skip: int, seed: int, wanted_by: str, place: str) -> list[str]:
    """Choose `count` names (None: all) after the first `skip` of an order that belongs to the seed alone; sorted.

    Each name has its own place in that order, so a set that skips what another takes shares no image with it, however they are listed.

    Args:
        wanted_by, place: words of the message.

    Raises:
        InputError: there are too few names.
    """
    order = sorted(names, key=lambda name: seed_of(seed, "choose", name))
    count = max(len(order) - skip, 1) if count is None else count
    if skip + count > len(order):
        after = f" after the first {skip}" if skip else ""
        raise InputError(
            f"{place}: {len(order)} images, {wanted_by} takes {count}{after}: lower {wanted_by}.count"
            + (" or skip" if skip else "")
        )
    return sorted(order[skip : skip + count])
