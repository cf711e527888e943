"""Images of any remote that rclone knows: cloud drives, object stores, servers, archives on them."""

import sys
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from psfr.compute import parallel
from psfr.compute.parallel import Pool
from psfr.data.images import SUFFIXES, name_fault
from psfr.data.subset import chosen
from psfr.params import ImageSet, LabelledSet
from psfr.sources import fetching, sums
from psfr.sources.folder import remove_others
from psfr.sources.pairs import Pair, examine, paired
from psfr.utils.errors import InputError, raise_together
from psfr.utils.files import removing

AGAIN = 2  # times that a broken file is fetched again before it is given up
MOST_NAMED = 40  # of pairs of one name: someone has named the folder above


class Place(NamedTuple):
    """A remote, what it holds, and the folder in which its files arrive."""

    remote: str
    listed: fetching.Listing
    folder: Path

    def path(self, file: Path) -> str:
        return str(file.relative_to(self.folder))

    def address(self, file: Path) -> str:
        return fetching.joined(self.remote, self.path(file))

    def fetch(self, files: Iterable[Path], description: str) -> None:
        paths = sorted(self.path(file) for file in files if file.is_relative_to(self.folder))
        fetching.copy(
            self.remote, {path: max(self.listed.files[path][0], 0) for path in paths}, self.folder, description
        )


def fill(raw: Path, name: str, given: ImageSet, seed: int, pool: Pool) -> None:
    """Fetch the images that the set takes of the remote `given.images`, and their masks of `given.masks`; what arrived is checked, and moved into `raw`.

    Raises:
        InputError: rclone is missing or fails, the remote holds too few images, or files are broken there or do not fit; all are named.
    """
    # It lies beside `raw`, and is kept when it is cut off: no change of the parameters throws away what has arrived.
    with removing(raw.with_name(f".{name}-rclone.partial")) as arrived:
        places = [Place(given.images, fetching.listing(given.images, f"list {name}"), arrived / "images")]
        if isinstance(given, LabelledSet):
            places.append(Place(given.masks, fetching.listing(given.masks, f"list {name}'s masks"), arrived / "masks"))
        pairs = _pairs(places)
        taken = [pairs[stem] for stem in chosen(pairs, given.count, given.skip, seed, name, given.images)]
        remove_others(raw, taken)
        _take_back(raw, taken)
        ffhq = _of_ffhq(places[0], [pair.image for pair in taken], arrived)
        for place in places:
            place.fetch((file for pair in taken for file in pair.files), f"fetch {name}")
        _check(raw, taken, ffhq, places, pool, name)
        for file, target in (each for pair in taken for each in pair.places(raw).items()):
            target.parent.mkdir(exist_ok=True)
            file.replace(target)


def _pairs(places: list[Place]) -> dict[str, Pair]:
    """Each image with its masks, as they will lie in the folders of the places."""
    faces = named(places[0].remote, places[0].listed.files, SUFFIXES)
    if len(places) == 1:
        pairs = {stem: Pair(path) for stem, path in faces.items()}
    else:
        masks = named(places[1].remote, places[1].listed.files, (".png",))
        pairs = paired(faces, masks, places[0].remote, places[1].remote)
    return {
        stem: Pair(places[0].folder / pair.image, tuple(places[-1].folder / mask for mask in pair.masks))
        for stem, pair in pairs.items()
    }


def named(remote: str, files: Collection[str], suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The images among the files of a remote: path by name without suffix, in the order of the paths.

    Raises:
        InputError: there is none, a name leads astray, or several images have one name without suffix.
    """
    paths = sorted(path for path in files if PurePosixPath(path).suffix.lower() in suffixes and not _hidden(path))
    if not paths:
        archive = next((path for path in files if path.endswith(".zip")), None)
        mend = (
            f"what is in {archive} is had by the name `:archive:{remote.rstrip('/')}/{archive}`"
            if archive
            else f"put {', '.join(suffixes)} files there"
        )
        raise InputError(f"{remote}: no images in it: {mend}")
    raise_together((f"{remote}: {fault}" for fault in map(_fault, paths) if fault), "rename it")
    first: dict[str, str] = {}
    twice = [
        f"{path} has the name of {first[stem]}"
        for path in paths
        if first.setdefault(stem := PurePosixPath(path).stem, path) != path
    ]
    more = [f"{len(twice) - MOST_NAMED} more"] if len(twice) > MOST_NAMED else []
    raise_together(
        twice[:MOST_NAMED] + more,
        f"rename one of each pair on {remote}, or name the folder that holds the images alone: names tell them apart",
    )
    return {stem: Path(path) for stem, path in first.items()}


def _hidden(path: str) -> bool:
    return any(part.startswith(".") and part != ".." for part in PurePosixPath(path).parts)


def _fault(path: str) -> str | None:
    """Why a name of a listing is not taken: the server that sent it may be anyone's."""
    if path.startswith("/") or ".." in PurePosixPath(path).parts:
        return f"{path!a} leads out of the folder"
    if path != str(PurePosixPath(path)):
        return f"{path!a} is no plain path"
    return name_fault(path)


def _of_ffhq(place: Place, files: list[Path], arrived: Path) -> dict[Path, sums.Sum]:
    """What FFHQ's own list says of images: the list lies among them or, where they have FFHQ's names, in the folder above."""
    inside = min(
        (path for path in place.listed.files if PurePosixPath(path).name == sums.FFHQ and _fault(path) is None),
        key=len,
        default=None,
    )
    remote, path, prefix, to = place.remote, inside, "", place.folder
    if inside is None:
        above = fetching.above(place.remote)
        if above is None or not all(sums.is_ffhq_name(file.name) for file in files):
            return {}
        remote, path, prefix, to = above[0], sums.FFHQ, f"{above[1]}/", arrived
    size = place.listed.files[path][0] if inside else fetching.size(remote, path)
    if size is None:
        return {}
    fetching.copy(remote, {path: size}, to, "fetch checksums")
    found = sums.of_ffhq(to / path, {prefix + place.path(file): file for file in files})
    print(f"{fetching.joined(remote, path)}: has the checksums of {len(found)} of {len(files)} images", file=sys.stderr)
    return found


def _take_back(raw: Path, taken: list[Pair]) -> None:
    """What a try that was cut off had moved already lies where it arrived again, and is checked again."""
    for file, target in (each for pair in taken for each in pair.places(raw).items()):
        if target.is_file() and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            target.replace(file)


def _check(
    raw: Path, pairs: list[Pair], ffhq: dict[Path, sums.Sum], places: list[Place], pool: Pool, name: str
) -> None:
    """Look at all that arrived; broken files are fetched again.

    Raises:
        InputError: files that are broken on the remote too.
    """

    def known(file: Path) -> tuple[sums.Sum, ...]:
        place = _place(file, places)
        return place.listed.sums(place.path(file)) + ((ffhq[file],) if file in ffhq else ())

    for tries_left in range(AGAIN, -1, -1):
        tasks = [(pair, [known(file) for file in pair.files]) for pair in pairs]
        outcomes = parallel.each(partial(examine, raw), tasks, pool, f"check {name}")
        faults = [fault for found in outcomes for fault in found]
        if not faults:
            return
        if tries_left == 0:
            raise_together(f"{_place(file, places).address(file)}: {reason}" for file, reason in faults)
        broken = {fault.path for fault in faults}
        print(f"{name}: broken, fetched again: {', '.join(sorted(path.name for path in broken))}", file=sys.stderr)
        for path in broken:
            path.unlink()
        for place in places:
            place.fetch(broken, f"fetch {name} again")
        pairs = [pair for pair, found in zip(pairs, outcomes, strict=True) if found]


def _place(file: Path, places: list[Place]) -> Place:
    return next(place for place in places if file.is_relative_to(place.folder))
