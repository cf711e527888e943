"""Run the network benchmarks one after the other and print the tables of benchmarks/README.md.

python -m benchmarks.table
"""

import argparse
import json
import subprocess
import sys

COLUMNS = [
    "size",
    "batch",
    "precision",
    "form",
    "seconds",
    "speedup",
    "memory (GiB)",
    "memory / plain",
    "share of ceiling",
]
BENCHMARKS = [
    ("train_step", "seconds_per_step", ["--steps", "5"]),
    ("inference", "seconds_per_image", ["--images", "8"]),
]
COMPARED = [["--plain"], ["--precision", "fp32"], ["--precision", "bf16"]]  # at the default size and batch
SCALING = [(128, 1), (256, 1), (256, 2), (256, 4), (512, 2)]  # image size and batch size, in bf16


def run_benchmark(name: str, *options: str) -> dict:
    """Run a benchmark and return the JSON of its last line."""
    print(f"{name} {' '.join(options)}", file=sys.stderr)
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def row(cells: list) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def result_row(result: dict, seconds: str, plain: dict | None) -> str:
    """Format a result.

    Args:
        seconds: its key of the seconds.
        plain: the result that speed and memory are compared with, if any.
    """
    speedup = memory_share = ""
    if plain:
        speedup = f"{plain[seconds] / result[seconds]:.2f}"
        memory_share = f"{result['peak_memory_gb'] / plain['peak_memory_gb']:.2f}"
    return row(
        [
            result["image_size"],
            result["batch_size"],
            result["precision"],
            result["form"],
            f"{result[seconds]:.3f}",
            speedup,
            f"{result['peak_memory_gb']:.2f}",
            memory_share,
            f"{100 * result['share_of_ceiling']:.0f} %",
        ]
    )


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__.splitlines()[0]).parse_args()
    for name, seconds, count in BENCHMARKS:
        print(f"\n`python -m benchmarks.{name}`\n")
        print(row(COLUMNS), row(["---"] * len(COLUMNS)), sep="\n")
        plain, fp32, bf16 = (run_benchmark(name, *options, *count) for options in COMPARED)
        for result in (plain, fp32, bf16):
            print(result_row(result, seconds, plain), flush=True)
        for size, batch in SCALING:
            options = ["--precision", "bf16", "--image-size", str(size), "--batch-size", str(batch)]
            print(result_row(run_benchmark(name, *options, *count), seconds, None), flush=True)
        print(
            f"\nOn: {plain['device']}; ceiling {fp32['ceiling_per_second']} (fp32) and "
            f"{bf16['ceiling_per_second']} (bf16) x 10^12 operations per second."
        )


if __name__ == "__main__":
    main()
