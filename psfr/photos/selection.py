"""Choice of the faces of a photograph that are restored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from psfr.photos.alignment import Frame
from psfr.utils.errors import UserError, join_first, safe_repr

ALL, LARGEST = "all", "largest"


@dataclass(frozen=True)
class Selection:
    """Which faces of a photograph are restored.

    Faces are numbered from 1, the largest first, as `detection.find_faces` returns them. The numbers of a photograph
    depend on its pixels only.

    Args:
        faces: all, the largest, or numbers.
        min_size: faces whose frame has a smaller side, in pixels of the photograph, are not restored.
    """

    faces: Literal["all", "largest"] | Sequence[int] = ALL
    min_size: float = 0

    def choose(self, frames: Sequence[Frame]) -> dict[int, Frame]:
        """Return the chosen faces by their number, in ascending order.

        Args:
            frames: all faces of the photograph, the largest first.

        Raises:
            UserError: the photograph has faces, but none of a chosen number, or `faces` is of another kind.
        """
        if isinstance(self.faces, str) and self.faces in (ALL, LARGEST):
            found = list(range(1, len(frames) + 1))
            numbers = found if self.faces == ALL else found[:1]
        elif not _are_numbers(self.faces):
            raise UserError(f"faces: {safe_repr(self.faces)}: pass {ALL}, {LARGEST} or whole numbers")
        else:
            numbers = sorted({int(number) for number in self.faces}) if frames else []
        missing = [str(number) for number in numbers if not 1 <= number <= len(frames)]
        if missing:
            found = "only 1 face is" if len(frames) == 1 else f"only {len(frames)} faces are"
            raise UserError(f"no face {join_first(missing, ', ')}, {found} found: see their numbers with --list")
        return {number: frames[number - 1] for number in numbers if frames[number - 1].size >= self.min_size}


def _are_numbers(faces: object) -> bool:
    if isinstance(faces, str) or not isinstance(faces, Iterable):
        return False
    return all(isinstance(number, Integral) for number in faces)
