"""Learning rates, weights of the losses and shifts as functions of the training step."""

from dataclasses import dataclass

import torch

from psfr.params import Params
from psfr.utils.seeds import rng_for

# Weights of the generator's losses (ss, pcp, pix, fm, gen) and of the discriminator's penalty (r1); 0 if left out.
LossWeights = dict[str, float]
VGG_LOSSES = ("ss", "pcp")  # the losses of VGG's features


@dataclass(frozen=True)
class Schedule:
    """Schedule of a training whose steps are counted from 0.

    Args:
        total_steps: number of steps.
        steps_per_epoch: number of steps in an epoch.
        warmup_steps: steps at the start with the pixel loss alone.
        decay_steps: steps at the end over which the learning rates fall linearly to 0.
        style_interval: after the warmup, the losses of VGG's features have `style_interval` times their weight in every
            `style_interval`-th step, and no weight in the others.
        loss_weights: weights of the losses, those of VGG's features as their mean over `style_interval` steps.
        max_shift: largest shift of the discriminator's images, in pixels.
        seed: seed of the shifts.
    """

    total_steps: int
    steps_per_epoch: int
    warmup_steps: int
    decay_steps: float
    style_interval: int
    loss_weights: LossWeights
    max_shift: int = 0
    seed: int = 0

    def loss_weights_at(self, step: int) -> LossWeights:
        """Return the weights of a step."""
        weights = self.loss_weights
        if step < self.warmup_steps:
            return dict.fromkeys(weights, 0.0) | {"pix": weights["pix"]}
        factor = self.style_interval if self._is_style_step(step) else 0.0
        return weights | {name: factor * weights[name] for name in VGG_LOSSES if name in weights}

    def measures_gradients(self, step: int) -> bool:
        """Return whether gradient norms are logged: in one step per epoch, which has all losses after the warmup."""
        start = step - step % self.steps_per_epoch
        if step < self.warmup_steps:
            return step == start
        return self._is_style_step(step) and step - max(start, self.warmup_steps) < self.style_interval

    def _is_style_step(self, step: int) -> bool:
        return (step - self.warmup_steps) % self.style_interval == 0

    def shift_at(self, step: int) -> tuple[int, int]:
        """Return the rows and columns by which the discriminator's images are shifted, from 0 to `max_shift`."""
        rows, columns = rng_for(self.seed, "shift", step).integers(0, self.max_shift, 2, endpoint=True).tolist()
        return rows, columns

    def set_learning_rates(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Set the rate of each parameter group for a step, a factor of the group's "initial_lr"."""
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.rate_factor_at(step)

    def rate_factor_at(self, step: int) -> float:
        """Return the factor of the learning rates in a step, 1 until they fall."""
        return min(1.0, (self.total_steps - step) / max(self.decay_steps, 1))


def make_schedule(params: Params, steps_per_epoch: int) -> Schedule:
    """Return the schedule of an experiment."""
    total_steps = params.epochs * steps_per_epoch
    optional = {"pcp": params.lambda_pcp, "r1": params.lambda_r1}
    return Schedule(
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        warmup_steps=round(params.pixel_warmup * total_steps),
        decay_steps=params.lr_decay * total_steps,
        style_interval=params.style_interval,
        loss_weights={
            "ss": params.lambda_ss,
            "pix": params.lambda_pix,
            "fm": params.lambda_fm,
            "gen": params.lambda_gen,
            **{name: weight for name, weight in optional.items() if weight},
        },
        max_shift=params.discriminator.max_shift,
        seed=params.seed,
    )
