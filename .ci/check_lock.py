"""Fail if dvc.lock does not belong to the code and the parameters of this checkout.

Data need not be there: `dvc status` reports what a fresh clone has not pulled yet as deleted or not in the cache.
"""

import json
import subprocess
import sys

ABSENT = {"deleted", "not in cache"}


def find_stale(status: dict[str, list]) -> list[str]:
    """Return one problem for each entry of `dvc status --json` that is changed and not only absent."""
    problems = []
    for stage, changes in status.items():
        for change in changes:
            if isinstance(change, str):  # "changed command", "always changed"
                problems.append(f"{stage}: {change}")
                continue
            for paths in change.values():
                for path, state in paths.items():
                    if isinstance(state, dict):  # a parameter file: the state of each parameter
                        problems += [f"{stage}: {name} in {path} is {kind}" for name, kind in state.items()]
                    elif state not in ABSENT:
                        problems.append(f"{stage}: {path} is {state}")
    return problems


def main() -> None:
    """Exit with status 1 and one line if dvc.lock is stale."""
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    problems = find_stale(json.loads(status.stdout))
    if problems:
        hint = "run `dvc repro` and commit dvc.lock with the results"
        sys.exit("error: dvc.lock is stale: " + "; ".join(problems) + f": {hint}")


if __name__ == "__main__":
    main()
