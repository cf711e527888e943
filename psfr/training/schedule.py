"""Learning rates and weights of the losses as functions of the training step."""

from dataclasses import dataclass

import torch

from psfr.params import Params

LossWeights = dict[str, float]  # of the generator's losses: ss, pix, fm, gen


@dataclass(frozen=True)
class Schedule:
    """Course of a training of `total_steps` steps, which are counted from 0.

    Args:
        total_steps: number of steps.
        warmup_steps: steps at the start with the pixel loss alone.
        decay_steps: steps at the end over which the learning rates fall linearly to 0.
        style_interval: the style loss has its weight in every `style_interval`-th step, and 0 in the others.
        loss_weights: weights of the losses, on average over the steps after the warmup.
    """

    total_steps: int
    warmup_steps: int
    decay_steps: float
    style_interval: int
    loss_weights: LossWeights

    def loss_weights_at(self, step: int) -> LossWeights:
        """Return the weights of a step."""
        weights = self.loss_weights
        if step < self.warmup_steps:
            return dict.fromkeys(weights, 0.0) | {"pix": weights["pix"]}
        has_style_loss = (step - self.warmup_steps) % self.style_interval == 0
        return weights | {"ss": weights["ss"] * self.style_interval if has_style_loss else 0.0}

    def set_learning_rates(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Set the rate of each parameter group for a step, a factor of the group's "initial_lr"."""
        factor = min(1.0, (self.total_steps - step) / max(self.decay_steps, 1))
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def make_schedule(params: Params, total_steps: int) -> Schedule:
    """Return the schedule of an experiment."""
    return Schedule(
        total_steps=total_steps,
        warmup_steps=round(params.pixel_warmup * total_steps),
        decay_steps=params.lr_decay * total_steps,
        style_interval=params.style_interval,
        loss_weights={
            "ss": params.lambda_ss,
            "pix": params.lambda_pix,
            "fm": params.lambda_fm,
            "gen": params.lambda_gen,
        },
    )
