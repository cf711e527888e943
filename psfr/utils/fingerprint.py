"""Fingerprint of a stage's dependencies: the value of each parameter and the hash of each file that dvc.yaml names."""

import hashlib
import sqlite3
import sys
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from psfr.utils.errors import UserError

if TYPE_CHECKING:
    from dvc.dependency.base import Dependency
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB
    from dvc_data.hashfile.tree import Tree

# {"parameters": {name: value}, "files": {path: hash}, "per_file": {folder: {file: hash}}}; {} if unknown.
Fingerprint = dict[str, dict[str, Any]]


def fingerprints(stage: str, per_file_deps: tuple[str, ...] = ()) -> tuple[Fingerprint, Fingerprint]:
    """Return the fingerprint of a stage's dependencies, and that of its last run, which dvc.lock records.

    Both come from one reading of dvc.yaml and dvc.lock, which takes DVC long.

    Args:
        stage: a stage's name as DVC writes it, such as `resize@ffhq`.
        per_file_deps: those of the stage's folders that it processes file by file; each of their files is hashed.

    Returns:
        The fingerprints; empty if DVC cannot determine them, for instance outside of a repository.

    Raises:
        UserError: DVC cannot write the hashes, as on a full disk.
    """
    # Imported here because importing DVC takes long and most processes do not need it.
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            (dvc_stage,) = repo.stage.collect(stage)
            last = _fingerprint(dvc_stage.deps, per_file_deps)
            for dep in dvc_stage.deps:
                dep.save()
            return _fingerprint(dvc_stage.deps, per_file_deps), last
    except (DvcException, ValueError):
        return {}, {}
    except sqlite3.Error as error:
        raise UserError(
            f"{stage}: DVC cannot write its database of hashes ({error}): free disk space, and run it again"
        ) from None


def _fingerprint(deps: "Iterable[Dependency]", per_file_deps: tuple[str, ...]) -> Fingerprint:
    """Return the fingerprint of dependencies as they are in dvc.lock or, after `dep.save()`, in the workspace."""
    from dvc_data.hashfile.tree import Tree

    found: Fingerprint = {"parameters": {}, "files": {}, "per_file": {}}
    for dep in deps:
        assert dep.hash_info is not None
        if dep.def_path in per_file_deps:
            tree = dep.get_obj()
            if not isinstance(tree, Tree):  # the list of the folder's files is missing from the DVC cache
                return {}
            found["per_file"][dep.def_path] = _hashes(tree)
        elif isinstance(dep.hash_info.value, dict):
            found["parameters"] |= _flatten(dep.hash_info.value)
        else:
            found["files"][dep.def_path] = dep.hash_info.value
    return found


def _hashes(tree: "Tree") -> dict[str, object]:
    return {"/".join(key): hash_info.value for key, _, hash_info in tree if hash_info is not None}


def _flatten(values: dict, prefix: str = "") -> dict[str, object]:
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def explain_changes(old: Fingerprint, new: Fingerprint) -> list[str]:
    """Describe how two fingerprints differ: `lambda_ss is 50, it was 100`; `psfr/training/losses.py has changed`."""
    changes = []
    for group in ("parameters", "files", "per_file"):
        old_values, new_values = old.get(group, {}), new.get(group, {})
        for name in sorted(old_values.keys() | new_values.keys()):
            old_value, new_value = old_values.get(name), new_values.get(name)
            if old_value == new_value:
                continue
            if group == "parameters":
                changes.append(f"{name} is {new_value}, it was {old_value}")
            else:
                changes.append(f"{name} has changed")
    return changes


def changed_files(old: Fingerprint, new: Fingerprint) -> set[tuple[str, str]]:
    """Return folder and relative path of each file that was changed, added or removed in those of `per_file_deps`."""
    changed = set()
    for folder in old["per_file"].keys() | new["per_file"].keys():
        old_files, new_files = old["per_file"].get(folder, {}), new["per_file"].get(folder, {})
        for file in old_files.keys() | new_files.keys():
            if old_files.get(file) != new_files.get(file):
                changed.add((folder, file))
    return changed


def checkout_unchanged(stage: str, path: Path, folder: Path, is_stale: Callable[[PurePath], bool]) -> int:
    """Check files of a stage's last output `path`, as dvc.lock records it, out of the DVC cache into an empty folder.

    Files are copied or linked, as DVC's `cache.type` says. Files that the cache does not have are skipped. So are
    damaged ones, which are removed from the cache, because DVC would keep them when the stage writes them again.

    Args:
        is_stale: called with a file's path relative to the output; returns whether to leave it out.

    Returns:
        The number of files checked out.
    """
    from dvc.repo import Repo
    from dvc_data.hashfile.checkout import checkout
    from dvc_data.hashfile.tree import Tree

    with Repo() as repo:
        out = _output(repo, stage, path)
        tree = Tree()
        recorded = out.get_obj()
        for key, meta, hash_info in recorded if isinstance(recorded, Tree) else ():
            if hash_info is None or hash_info.value is None or is_stale(PurePath(*key)):
                continue
            if _is_intact(out.cache, hash_info.value):
                tree.add(key, meta, hash_info)
        if len(tree):
            tree.digest()
            checkout(str(folder.absolute()), out.fs, tree, out.cache, quiet=True)
        return len(tree)


def is_last_output_cached(stage: str, path: Path) -> bool:
    """Return whether dvc.lock records the output `path` of a stage and the DVC cache has all of its files."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            return not _output(repo, stage, path).changed_cache()
    except (DvcException, ValueError):
        return False


def _output(repo: "Repo", stage: str, path: Path) -> "Output":
    (dvc_stage,) = repo.stage.collect(stage)
    return next(out for out in dvc_stage.outs if Path(out.def_path) == path)


def _is_intact(cache: "HashFileDB", oid: str) -> bool:
    """Return whether the cache has the object `oid`, an MD5 hash, with this content; remove a damaged object."""
    path = Path(cache.oid_to_path(oid))
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
    except FileNotFoundError:
        return False
    if digest != oid:
        print(f"{path}: damaged, removed from the DVC cache", file=sys.stderr)
        path.unlink()
    return digest == oid
