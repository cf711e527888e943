"""Model card of a training: what the model was trained on and how, how good it is, and who may use it for what."""

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from psfr.data.datasets import PairedFaceDataset
from psfr.params import PUBLISHED, ImageSetParams, Params
from psfr.training.kept_generators import CHECKPOINTS
from psfr.training.validation import METRICS
from psfr.utils.files import atomic_write

CARD = "README.md"
NON_COMMERCIAL, OWN, UNKNOWN = "cc-by-nc-sa-4.0", "mit", "other"  # identifiers of licenses, as Hugging Face has them
LABELS = {"psnr": "PSNR (dB) ↑", "st_lpips": "ST-LPIPS ↓", "identity": "identity distance ↓"}
# Groups of parameters and single ones that shape the weights of generator and discriminator.
PARAMETERS = {
    *("batch_size", "discriminator", "ema", "epochs", "flip", "generator", "held_out", "image_size"),
    *("lambda_fm", "lambda_gen", "lambda_pcp", "lambda_pix", "lambda_r1", "lambda_ss", "lr_decay", "lr_discriminator"),
    *("lr_generator", "perceptual", "pixel_warmup", "seed", "style_interval"),
}


def write(
    folder: Path,
    params: Params,
    dataset: PairedFaceDataset,
    num_validated: int,
    compute: Mapping[str, str | int],
) -> None:
    """Write the card of a trained model to its folder, which has `CHECKPOINTS`.

    Args:
        folder: the folder of the model.
        params: the parameters of the training.
        dataset: the training set.
        num_validated: number of images to validate on.
        compute: device, precision and number of processes.
    """
    checkpoints = json.loads((folder / CHECKPOINTS).read_text(encoding="utf-8"))
    identifier, terms = license_terms(params)
    values = params.model_dump(include=PARAMETERS)
    lines = [
        "---",
        f"license: {identifier}",
        "pipeline_tag: image-to-image",
        "tags: [psfr-gan, face-restoration]",
        "---",
        "# PSFR-GAN",
        "",
        "Generator and discriminators of PSFR-GAN ([Chen et al., CVPR 2021](https://arxiv.org/abs/2009.08709)), which",
        f"restores degraded faces of {params.image_size}x{params.image_size} pixels, aligned as in FFHQ.",
        "",
        f"- **Data**: {len(dataset)} {_kind(params.ffhq)}, each in {dataset.num_variants} degraded copies; "
        f"{num_validated} others to validate on.",
        f"- **Training**: {checkpoints['last']} steps of {min(params.batch_size, len(dataset))} images, starting from "
        f"{_start(params)}.",
        f"- **Device**: {compute['device']}, {compute['precision']}, processes: {compute['processes']}.",
        f"- **License**: {terms}",
        "",
        "## Files",
        "",
        "`generator.safetensors` and `discriminator.safetensors` are of the last step. Use them with",
        "`psfr-restore PHOTO -o OUT --model models`, a step below that has a file with `--model models/psfrgan@STEP`.",
        "",
        "## Validation",
        "",
        *_validation(checkpoints, num_validated),
        "",
        "`metrics/evaluation.json` of the same commit has the metrics on the test set, with their intervals.",
        "",
        "## Limits",
        "",
        *_limits(params),
        "",
        "## Parameters",
        "",
        "```yaml",
        yaml.safe_dump(values, default_flow_style=None).strip(),
        "```",
    ]
    with atomic_write(folder / CARD) as path:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def license_terms(params: Params) -> tuple[str, str]:
    """Return the identifier of the license that the data of a training leaves to its model, and what it says."""
    if params.fpn.source == PUBLISHED or PUBLISHED in (params.generator.init, params.fpn.init):
        return NON_COMMERCIAL, (
            "the training used published networks of PSFR-GAN's authors: CC BY-NC-SA 4.0, no commercial use; the "
            "photographs have terms of their own (docs/licenses.md)."
        )
    if params.generator.init or params.discriminator.init or params.fpn.init:
        return UNKNOWN, "that of the checkpoints from which the training started and of its images (docs/licenses.md)."
    if params.ffhq.source == params.celebamask.source == "sample":
        return OWN, (
            "MIT, as the code that draws its portraits. The backbone of the style loss was trained on ImageNet "
            "(docs/licenses.md)."
        )
    return UNKNOWN, (
        "that of the photographs in `ffhq` and of the labels in `celebamask`, which this pipeline does not know; FFHQ "
        "and CelebAMask-HQ allow no commercial use (docs/licenses.md)."
    )


def _kind(images: ImageSetParams) -> str:
    if images.source == "sample":
        return "synthetic portraits, drawn by this project"
    return "photographs of a folder" if images.source == "folder" else "photographs of a remote"


def _start(params: Params) -> str:
    starts = {init for init in (params.generator.init, params.discriminator.init) if init}
    return " and ".join(sorted(starts)) or "random weights"


def _validation(checkpoints: dict, num_images: int) -> list[str]:
    if not checkpoints["validations"]:
        return ["None: `validate_every` or `held_out` is 0."]
    lines = [
        f"On {num_images} faces that it was not trained on, with 95 % bootstrap intervals. The best step by ST-LPIPS "
        f"is {checkpoints['best']}.",
        "",
        f"| step | {' | '.join(LABELS[metric] for metric in METRICS)} | file |",
        f"| ---: |{' --- |' * len(METRICS)} --- |",
    ]
    for scores in checkpoints["validations"]:
        cells = [
            f"{scores[metric]:.4g} ({scores[f'{metric}_low']:.4g} to {scores[f'{metric}_high']:.4g})"
            for metric in METRICS
        ]
        file = checkpoints["files"].get(str(scores["step"]), "")
        lines.append(f"| {scores['step']} | {' | '.join(cells)} | {f'`{file}`' if file else ''} |")
    return lines


def _limits(params: Params) -> list[str]:
    limits = [
        "- A restored face is a plausible face, not evidence of what a person looked like: details are invented.",
        "- Faces unlike those of the training set, strong side views and covered faces are restored less well.",
    ]
    if params.ffhq.source == "sample":
        limits.insert(
            0, "- Trained on synthetic portraits only: it demonstrates the pipeline and suits no photographs."
        )
    return limits
