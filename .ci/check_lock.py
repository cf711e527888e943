"""Fail if dvc.lock does not belong to the code and the parameters of this checkout.

Data need not be there: what `dvc status` reports as deleted is what a fresh clone has not pulled yet.
"""

import json
import subprocess
import sys


def stale_stages(status: dict[str, list]) -> list[str]:
    """Return `stage: path or parameter` for each entry of `dvc status --json` that is changed, not only absent."""
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
                    elif state != "deleted":
                        problems.append(f"{stage}: {path} is {state}")
    return problems


def main() -> None:
    done = subprocess.run(["dvc", "status", "--json"], capture_output=True, text=True, check=True)
    problems = stale_stages(json.loads(done.stdout))
    if problems:
        hint = "run `dvc repro` and commit dvc.lock with the results"
        sys.exit("error: dvc.lock is stale: " + "; ".join(problems) + f": {hint}")


if __name__ == "__main__":
    main()
