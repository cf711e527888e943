"""The tables of benchmarks/README.md: runs the network benchmarks one after the other and prints what they say.

python -m benchmarks.table
"""

import json
import subprocess
import sys

HEAD = [
    "size",
    "batch",
    "precision",
    "form",
    "seconds",
    "times plain",
    "memory (GiB)",
    "share of plain",
    "share of ceiling",
]
BESIDE = [["--plain"], ["--precision", "fp32"], ["--precision", "bf16"]]
GROWTH = [(128, 1), (256, 1), (256, 2), (256, 4), (512, 2)]


def measured(benchmark: str, *options: str) -> dict:
    """The JSON that a benchmark prints last."""
    print(f"{benchmark} {' '.join(options)}", file=sys.stderr)
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{benchmark}", *options], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def line(values: list) -> str:
    return f"| {' | '.join(map(str, values))} |"


def row(result: dict, figure: str, plain: dict | None) -> str:
    beside = (
        [f"{plain[figure] / result[figure]:.2f}", f"{result['peak_memory_gb'] / plain['peak_memory_gb']:.2f}"]
        if plain
        else ["", ""]
    )
    return line([result["image_size"], result["batch_size"], result["precision"], result["form"], f"{result[figure]:.3f}", beside[0],
                 f"{result['peak_memory_gb']:.2f}", beside[1], f"{100 * result['share_of_ceiling']:.0f} %"])  # fmt: skip


def main() -> None:
    for benchmark, figure, count in (
        ("train_step", "seconds_per_step", ["--steps", "5"]),
        ("inference", "seconds_per_image", ["--images", "8"]),
    ):
        print(f"\n`python -m benchmarks.{benchmark}`\n")
        print(line(HEAD), line(["---"] * len(HEAD)), sep="\n")
        results = [measured(benchmark, *options, *count) for options in BESIDE]
        for result in results:
            print(row(result, figure, results[0]), flush=True)
        for size, batch in GROWTH:
            result = measured(
                benchmark, "--precision", "bf16", "--image-size", str(size), "--batch-size", str(batch), *count
            )
            print(row(result, figure, None), flush=True)
        print(
            f"\nOn: {results[0]['device']}; ceiling {results[1]['ceiling_per_second']} (fp32) and {results[2]['ceiling_per_second']} (bf16) x 10^12 operations a second."
        )


if __name__ == "__main__":
    main()
