"""What a stage's result depends on, as DVC knows it: the value of each parameter, the hash of each file and folder that dvc.yaml names."""

from pathlib import Path

# parameters: name to value; files: path to hash; items: folder to its files' hashes.
Origin = dict[str, dict[str, object]]


def origin(stage: str, items: tuple[str, ...] = (), recorded: bool = False) -> Origin:
    """What the result of a stage depends on, by the names of dvc.yaml.

    Args:
        stage: as DVC writes it, such as `resize@ffhq`.
        items: those of its folders whose files are worked on one by one.
        recorded: as dvc.lock has it of the stage's last run, instead of as it is.

    Returns:
        The origin; it is empty where DVC cannot tell it, outside of a repository for instance.
    """
    from dvc.exceptions import DvcException  # here: it is needed once a stage
    from dvc.repo import Repo

    found: Origin = {"parameters": {}, "files": {}, "items": {}}
    try:
        with Repo() as repo:
            (wanted,) = repo.stage.collect(stage)
            for dependency in wanted.deps:
                if not recorded:
                    dependency.save()
                if dependency.def_path in items:
                    if dependency.get_obj() is None:  # DVC's cache has lost the list of its files
                        return {}
                    found["items"][dependency.def_path] = {
                        "/".join(name): file.value for name, _, file in dependency.get_obj()
                    }
                elif isinstance(dependency.hash_info.value, dict):
                    found["parameters"] |= _flat(dependency.hash_info.value)
                else:
                    found["files"][dependency.def_path] = dependency.hash_info.value
    except (DvcException, ValueError):
        return {}
    return found


def _flat(values: dict, prefix: str = "") -> dict[str, object]:
    flat = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def differences(old: Origin, new: Origin) -> list[str]:
    """What sets two origins apart, in words: `lambda_ss is 50, it was 100`; `psfr/training/losses.py has changed`."""
    said = []
    for kind in ("parameters", "files", "items"):
        before, now = old.get(kind, {}), new.get(kind, {})
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                said.append(
                    f"{name} is {now.get(name)}, it was {before.get(name)}"
                    if kind == "parameters"
                    else f"{name} has changed"
                )
    return said


def changed(before: Origin, now: Origin) -> set[str]:
    """The names without suffix of what has changed, come or gone in the folders of items."""
    names = set()
    for items in before["items"].keys() | now["items"].keys():
        old, new = before["items"].get(items, {}), now["items"].get(items, {})
        names |= {Path(file).stem for file in old.keys() | new.keys() if old.get(file) != new.get(file)}
    return names


def lay_recorded(stage: str, path: Path, folder: Path, without: set[str]) -> int:
    """Lay the files of a stage's last result `path`, as dvc.lock has it, into an empty folder, from DVC's cache.

    Args:
        without: names without suffix of those that are left out. What the cache has lost is left out too.

    Returns:
        How many files there are now; as copies or links, whichever `cache.type` of DVC says.
    """
    from dvc.repo import Repo
    from dvc_data.hashfile.checkout import checkout
    from dvc_data.hashfile.tree import Tree

    with Repo() as repo:
        (wanted,) = repo.stage.collect(stage)
        out = next(out for out in wanted.outs if Path(out.def_path) == path)
        kept = Tree()
        for key, meta, hashed in out.get_obj() or ():
            if Path(key[-1]).stem not in without and out.cache.exists(hashed.value):
                kept.add(key, meta, hashed)
        if len(kept):
            kept.digest()
            checkout(str(folder.absolute()), out.fs, kept, out.cache, quiet=True)
        return len(kept)
