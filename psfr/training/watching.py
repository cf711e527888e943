"""What is seen of a GAN training while it runs: its log, its validations, and the generators that are kept."""

from pathlib import Path
from typing import TYPE_CHECKING

from psfr.data import images
from psfr.networks import serialization
from psfr.params import Params
from psfr.training import gan
from psfr.training.gan_step import Gan
from psfr.training.kept_generators import KeptGenerators
from psfr.training.metrics_log import log_values
from psfr.training.validation import METRICS, Validation

if TYPE_CHECKING:
    from dvclive.live import Live


class Watching:
    """A `Watcher` of `gan.train`.

    Args:
        params: the experiment's parameters.
        state: the networks of the training.
        validation: the faces to validate on, None for none.
        live: the log.
        folder: where the sheets of restored faces and the kept generators are until the training ends.
        compute: what the training runs on, for the files of the generators.
    """

    def __init__(
        self,
        params: Params,
        state: Gan,
        validation: Validation | None,
        live: "Live",
        folder: Path,
        compute: serialization.Compute,
    ):
        self.params, self.state, self.live, self.folder, self.compute = params, state, live, folder, compute
        self.validation = validation
        self.log_every, self.validate_every = params.log_every, params.validate_every if validation else 0
        self.kept = KeptGenerators(folder, params.keep)

    def on_log(self, step: int, means: dict[str, float]) -> None:
        """Log mean losses, scores and gradient norms, and the learning rates."""
        log_values(self.live, step, means)

    def validate(self, step: int) -> dict[str, float]:
        """Return the scores of the generator after a step; save it, and a sheet of restored faces."""
        assert self.validation
        scores, sheet = self.validation(self.state.trained_generator)
        images.write(self._sheet(step), sheet)
        self.save_generator(self.kept.path(step))
        return scores

    def on_validation(self, step: int, scores: dict[str, float]) -> None:
        """Log the scores and the sheet of a step, and decide which generators are kept."""
        self.kept.add(step, scores)
        self.live.log_image(self._sheet(step).name, images.read(self._sheet(step)))
        log_values(self.live, step, {f"validation_{name}": scores[name] for name in METRICS})

    def save_generator(self, path: Path) -> None:
        """Save the generator that restores images."""
        serialization.save(path, self.state.trained_generator, self.compute, **gan.generator_config(self.params))

    def _sheet(self, step: int) -> Path:
        return self.folder / f"step_{step:07}.png"
