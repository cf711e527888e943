"""Train the GAN; after each epoch, save the networks, log the losses and draw a sheet of sample faces."""

from pathlib import Path

from psfr.compute.devices import report_compute
from psfr.compute.processes import Work, get_rank, on_rank_zero, run_distributed
from psfr.data import degradation_table, images
from psfr.data.datasets import PairedFaceDataset
from psfr.networks import serialization
from psfr.networks.vgg import VggFeatures
from psfr.params import Params, read_params
from psfr.pretrained import loader, network_files
from psfr.training import gan
from psfr.training.checkpoint import CheckpointManager
from psfr.training.metrics_log import open_log
from psfr.training.sample_sheet import sample_sheet
from psfr.utils.errors import UserError
from psfr.utils.files import mirror_to_cache
from psfr.utils.resume import training_state_dir

MODELS = Path("models/psfrgan")
METRICS = Path("metrics/train")
FFHQ = Path("data/ffhq")
NUM_SAMPLES = 4  # faces on the sheet of an epoch


def main() -> None:
    params = read_params()
    compute = report_compute("train", params.compute)
    table = degradation_table.read_table(FFHQ / "degradations.csv")
    gray = set(table.loc[table.gray == 1, ["name", "variant"]].itertuples(index=False, name=None))
    dataset = PairedFaceDataset(FFHQ / "hr", FFHQ / "lr", FFHQ / "parse", gray)
    state = gan.build(params, _load_vgg(params))
    with on_rank_zero(training_state_dir(MODELS.parent, "train")) as state_dir, open_log(METRICS) as live:

        def on_epoch_end(epoch: int, means: dict[str, float]) -> None:
            _save_networks(state, params, compute)
            for name, mean in means.items():
                group, _, key = name.rpartition("_")  # score_real, grad_ss, pix, ...
                live.log_metric(f"{group or 'loss'}/{key}", mean)
            live.summary["compute"] = [compute]  # a list, so that DVC takes it for no metric
            sheet = state_dir / f"epoch_{epoch:03}.png"
            if not sheet.is_file():  # a resumed training calls this again for earlier epochs
                images.write(sheet, sample_sheet(state.trained_generator, dataset, NUM_SAMPLES, params.compute))
            live.log_image(sheet.name, images.read(sheet))
            live.next_step()

        gan.train(params, state, dataset, CheckpointManager(state_dir, params.compute.checkpoint_seconds), on_epoch_end)
    if get_rank() == 0:
        mirror_to_cache("train", METRICS / "metrics.json")


def _load_vgg(params: Params) -> VggFeatures:
    path = loader.WEIGHTS_DIR / "perceptual" / network_files.VGG_BACKBONES[params.perceptual.network]
    vgg = VggFeatures(**params.perceptual.model_dump())
    try:
        vgg.load_backbone(loader.load(path))
    except ValueError as error:
        raise UserError(f"{path}: {error}: fetch it again with `dvc repro -f fetch_weights`") from None
    return vgg


def _save_networks(state: gan.Gan, params: Params, compute: dict) -> None:
    config_g, config_d = gan.generator_config(params), gan.discriminator_config(params)
    serialization.save(MODELS / "generator.safetensors", state.trained_generator, compute, **config_g)
    serialization.save(MODELS / "discriminator.safetensors", state.discriminator, compute, **config_d)


def _work(params: Params) -> Work:
    num_images = len(images.list_images(FFHQ / "hr"))
    # A set that is smaller than a batch is one batch.
    return Work(params.epochs * num_images, min(params.batch_size, num_images))


if __name__ == "__main__":
    run_distributed(main, "images", "networks", work=_work)
