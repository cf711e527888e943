"""Loss scaling: keeps the gradients of a step in float16 from underflowing."""

import torch
from torch import Tensor


class LossScaler(torch.amp.GradScaler):
    """Dynamic loss scaling of one or several optimizers with `fused=True`.

    A step multiplies its losses by the scale (`scale`), divides what it logs (`unscale`), calls `step` for each
    optimizer in place of the optimizer's own, and `update` at its end. An optimizer whose gradients are not all finite
    leaves its parameters and its state as they are; the scale is then halved. After 2,000 steps without, it is doubled.

    With another dtype than float16 nothing is scaled and all methods do what the step does without them.

    Args:
        device: device of the gradients.
        dtype: dtype of the convolutions.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype):
        super().__init__(device.type, enabled=dtype == torch.float16)

    def unscale(self, value: Tensor) -> Tensor:
        """Divide a gradient, or its norm, by the scale."""
        return value / self.scale(torch.ones((), device=value.device)) if self.is_enabled() else value

    def skipped(self, optimizer: torch.optim.Optimizer) -> Tensor:
        """Return whether the last `step` changed nothing, as a scalar 0 or 1; to be called before `update`.

        The scalar is on the device of the gradients and the same in all processes if their gradients are.
        """
        return torch.stack(list(self._found_inf_per_device(optimizer).values())).sum()
