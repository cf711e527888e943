"""Run the data stages on many images in a clone of the project and measure them.

Measures time, memory and files of each stage, a run without changes, a run after images were added, and the speedup
with two processes.

python -m benchmarks.scale FOLDER --count 70000
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from psfr import portraits
from psfr.compute import parallel
from psfr.data import degradation, degradation_table, images, resize
from psfr.params import read_params
from psfr.utils.seeds import rng_for

ROOT = Path(__file__).parent.parent
PREPARATION = "fetch_weights", "download@celebamask", "resize@celebamask", "fpn"
STAGES = "download@ffhq", "resize@ffhq", "degrade", "parse"
IMAGE_SIZE = 64  # pixels; the source images are 1.5 times as large
NUM_PORTRAITS = 64  # from which all source images are made


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", type=Path, help="an empty folder; source images and clone take about 100 kB per image"
    )
    parser.add_argument("--count", type=int, default=70_000, help="images of the set")
    parser.add_argument("--add", type=int, default=100, help="images that are added later")
    parser.add_argument("--part", type=int, default=24_000, help="images on which one and two processes are compared")
    options = parser.parse_args()
    folder = options.folder.resolve()
    sources, project = folder / "pictures", folder / "project"

    write_sources(sources, range(options.count))
    subprocess.run(["git", "clone", "-q", str(ROOT), str(project)], check=True)
    write_params(project / "params.yaml", sources)
    run_measured(project, "dvc", "repro", *PREPARATION)
    result: dict[str, object] = {"images": options.count}
    result["stages"] = {stage: run_measured(project, "dvc", "repro", "--single-item", stage) for stage in STAGES}
    result["files"] = sum(len(files) for _, _, files in os.walk(project / "data/ffhq"))
    result["nothing_to_do"] = run_measured(project, "dvc", "repro", "parse")

    write_sources(sources, range(options.count, options.count + options.add))
    run_measured(project, "dvc", "repro", "--force", "--single-item", "download@ffhq")
    result[f"{options.add}_more"] = {
        stage: run_measured(project, "dvc", "repro", "--single-item", stage) for stage in STAGES[1:]
    }
    result["one_process_over_two"] = measure_speedup(project, folder / "part", options.part)
    print(json.dumps(result))


def write_sources(folder: Path, indices: range) -> None:
    """Write different images into subfolders of a thousand, as in FFHQ."""
    faces = parallel.map(partial(portraits.draw, 1, size=IMAGE_SIZE * 3 // 2), range(NUM_PORTRAITS), None, "draw")
    parallel.map(partial(_write_variation, folder, [image for image, _ in faces]), indices, None, "vary")


def _write_variation(folder: Path, faces: list[np.ndarray], index: int) -> None:
    rng = rng_for(1, "scale", index)
    face = faces[index % len(faces)][:, :: rng.choice([-1, 1])]
    image = np.clip(face * rng.uniform(0.6, 1.4, 3) + rng.normal(0, 3, face.shape), 0, 255).astype(np.uint8)
    images.write(folder / f"{index // 1000 * 1000:05}" / f"{index:05}.png", image)


def write_params(path: Path, sources: Path) -> None:
    """Write params/tiny.yaml with `sources` as the training set."""
    content = yaml.safe_load((ROOT / "params/tiny.yaml").read_text())
    content["ffhq"] |= {"source": "folder", "images": str(sources), "count": None}
    content["degrade"]["variants"] = 1
    content["image_size"] = IMAGE_SIZE
    path.write_text(yaml.safe_dump(content))


def run_measured(project: Path, *command: str) -> dict[str, float | None]:
    """Run a command.

    Returns:
        "seconds", and "gib": the peak memory of all its processes together (proportional set size), None if the system
        has no /proc.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        command, cwd=project, start_new_session=True, env=os.environ | {"PATH": path}, stdout=sys.stderr
    )
    while process.poll() is None:
        peak = max(peak, _session_memory(process.pid))
        time.sleep(0.5)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}")
    return {"seconds": round(time.perf_counter() - start, 1), "gib": round(peak / 2**20, 2) if peak else None}


def _session_memory(session: int) -> int:
    """Return the memory of a session's processes in kB; shared pages count once."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int((process / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                total += int((process / "smaps_rollup").read_text().partition("\nPss:")[2].split()[0])
        except (OSError, IndexError):  # the process has exited
            continue
    return total


def measure_speedup(project: Path, folder: Path, count: int) -> dict[str, float]:
    """Return the speedup of two processes over one, of one thread each, for resizing, degrading and parsing."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    for path in images.list_images(project / "data/ffhq/raw")[:count]:
        os.link(path, raw / path.name)
        path.read_bytes()  # fills the page cache, so that neither run waits for the disk
    parallel.map(abs, range(100), 2, "start")  # starts joblib's processes before the measurement
    one, two = (_time_steps(project, folder / str(processes), raw, processes) for processes in (1, 2))
    return {name: round(one[name] / two[name], 2) for name in one}


def _time_steps(project: Path, folder: Path, raw: Path, num_processes: int) -> dict[str, float]:
    """Return the seconds of each step."""
    params = read_params(project / "params.yaml")
    hr, lr = folder / "data/ffhq/hr", folder / "data/ffhq/lr"
    folder.mkdir()
    shutil.copytree(project / "models", folder / "models")
    content = yaml.safe_load((project / "params.yaml").read_text())
    content["compute"] |= {"devices": num_processes, "workers": 0}
    (folder / "params.yaml").write_text(yaml.safe_dump(content))

    def degrade() -> None:
        paths = images.list_images(hr)
        rows = degradation.write_variants(paths, lr, params.degrade, IMAGE_SIZE, params.seed, num_processes)
        degradation_table.write_table(rows, lr.with_name("table.csv"))

    def parse() -> None:
        environment = os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "stages.parse"], cwd=folder, check=True, env=environment)

    steps = {
        "resize": lambda: resize.resize_folder(raw, hr, IMAGE_SIZE, num_processes),
        "degrade": degrade,
        "parse": parse,
    }
    seconds = {}
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        seconds[name] = time.perf_counter() - start
    return seconds


if __name__ == "__main__":
    main()
