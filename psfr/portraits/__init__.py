"""Portraits drawn by the project itself: shaded heads with exact CelebAMask-HQ label maps, any number, any size."""

from psfr.portraits.person import Person
from psfr.portraits.relief import Region
from psfr.portraits.render import MAX_SIZE, MIN_SIZE, draw, render
from psfr.portraits.sampling import sample_person

__all__ = ["MAX_SIZE", "MIN_SIZE", "Person", "Region", "draw", "render", "sample_person"]
