"""Procedural renderer of synthetic face portraits with exact CelebAMask-HQ parsing maps, at any size from 32 to 1024.

See README.md in this folder for the coordinate systems and the order of the modules.
"""

from psfr.portraits.heightfield import Label
from psfr.portraits.person import Person
from psfr.portraits.render import MAX_SIZE, MIN_SIZE, draw, render
from psfr.portraits.sampling import sample_person

__all__ = ["MAX_SIZE", "MIN_SIZE", "Label", "Person", "draw", "render", "sample_person"]
