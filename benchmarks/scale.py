"""A set of many images through the data stages in a clone of the project: seconds, memory and files of each stage, what a repetition and an addition cost, and what a second process brings.

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

from psfr import params, portraits
from psfr.compute import parallel
from psfr.data import degradation, degradation_table, images, resize
from psfr.utils.seeds import generator

ROOT = Path(__file__).parent.parent
FIRST = "fetch_weights", "download@celebamask", "resize@celebamask", "fpn"
STAGES = "download@ffhq", "resize@ffhq", "degrade", "parse"
SIDE = 64  # pixels of an image in the experiment; the pictures are half as large again
DRAWN = 64  # portraits, of which the pictures are made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="an empty one: pictures and clone take about 100 kB an image")
    parser.add_argument("--count", type=int, default=70_000)
    parser.add_argument("--add", type=int, default=100, help="images that come later")
    parser.add_argument("--part", type=int, default=24_000, help="images on which one and two processes are compared")
    options = parser.parse_args()
    folder, pictures, project = (
        options.folder.resolve(),
        options.folder.resolve() / "pictures",
        options.folder.resolve() / "project",
    )
    draw(pictures, range(options.count))
    subprocess.run(["git", "clone", "-q", str(ROOT), str(project)], check=True)
    configure(project / "params.yaml", pictures)
    ran(project, "dvc", "repro", *FIRST)
    result = {
        "images": options.count,
        "stages": {stage: ran(project, "dvc", "repro", "--single-item", stage) for stage in STAGES},
    }
    result["files"] = sum(len(files) for _, _, files in os.walk(project / "data/ffhq"))
    result["nothing_to_do"] = ran(project, "dvc", "repro", "parse")
    draw(pictures, range(options.count, options.count + options.add))
    ran(project, "dvc", "repro", "--force", "--single-item", "download@ffhq")
    result[f"{options.add}_more"] = {
        stage: ran(project, "dvc", "repro", "--single-item", stage) for stage in STAGES[1:]
    }
    result["one_process_over_two"] = compare(project, folder / "part", options.part)
    print(json.dumps(result))


def draw(pictures: Path, numbers: range) -> None:
    """Pictures in FFHQ's folders of a thousand, no two alike."""
    faces = parallel.each(partial(portraits.draw, 1, size=SIDE * 3 // 2), range(DRAWN), None, "draw")
    parallel.each(partial(_vary, pictures, [image for image, _ in faces]), numbers, None, "vary")


def _vary(pictures: Path, faces: list[np.ndarray], number: int) -> None:
    rng = generator(1, "scale", number)
    face = faces[number % len(faces)][:, :: rng.choice([-1, 1])]
    image = np.clip(face * rng.uniform(0.6, 1.4, 3) + rng.normal(0, 3, face.shape), 0, 255).astype(np.uint8)
    images.write(pictures / f"{number // 1000 * 1000:05}" / f"{number:05}.png", image)


def configure(path: Path, pictures: Path) -> None:
    """The tiny parameters, with the pictures as the training set."""
    values = yaml.safe_load((ROOT / "params/tiny.yaml").read_text())
    values["ffhq"] |= {"source": "folder", "images": str(pictures), "count": None}
    values["degrade"]["variants"] = 1
    values["image_size"] = SIDE
    path.write_text(yaml.safe_dump(values))


def ran(project: Path, *command: str) -> dict[str, float]:
    """Run a command; its seconds, and the most memory that its processes held together, GiB (proportional set size)."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    began, most = time.perf_counter(), 0
    process = subprocess.Popen(
        command, cwd=project, start_new_session=True, env=os.environ | {"PATH": path}, stdout=sys.stderr
    )
    while process.poll() is None:
        most = max(most, _held(process.pid))
        time.sleep(0.5)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}")
    return {"seconds": round(time.perf_counter() - began, 1), "gib": round(most / 2**20, 2)}


def _held(session: int) -> int:
    """kB that the processes of a session hold, shared pages counted once."""
    total = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if int((place / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                total += int((place / "smaps_rollup").read_text().partition("\nPss:")[2].split()[0])
        except (OSError, IndexError):  # it has ended since
            continue
    return total


def compare(project: Path, part: Path, count: int) -> dict[str, float]:
    """How many times as fast two processes do the work of one, each of one thread."""
    values = params.read(project / "params.yaml")
    raw = part / "raw"
    raw.mkdir(parents=True)
    for path in images.listed(project / "data/ffhq/raw")[:count]:
        os.link(path, raw / path.name)
        path.read_bytes()  # neither run waits for the disk

    def seconds(processes: int) -> dict[str, float]:
        work = part / str(processes)
        hr, lr = work / "data/ffhq/hr", work / "data/ffhq/lr"
        steps = {
            "resize": lambda: resize.resize_folder(raw, hr, SIDE, processes),
            "degrade": lambda: degradation_table.write_table(
                degradation.make_copies(images.listed(hr), lr, values.degrade, SIDE, values.seed, processes),
                lr.with_name("table.csv"),
            ),
            "parse": lambda: subprocess.run(
                [sys.executable, "-m", "stages.parse"],
                cwd=work,
                check=True,
                env=os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"},
            ),
        }
        work.mkdir()
        shutil.copytree(project / "models", work / "models")
        given = yaml.safe_load((project / "params.yaml").read_text())
        given["compute"] |= {"devices": processes, "workers": 0}
        (work / "params.yaml").write_text(yaml.safe_dump(given))
        taken = {}
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            taken[name] = time.perf_counter() - began
        return taken

    parallel.each(abs, range(100), 2, "begin")  # processes that joblib keeps are there before the clock runs
    one, two = seconds(1), seconds(2)
    return {name: round(one[name] / two[name], 2) for name in one}


if __name__ == "__main__":
    main()
