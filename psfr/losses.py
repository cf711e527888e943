"""Losses of PSFR-GAN, re-exported from `psfr.training.losses` for code outside this project."""

from psfr.training.losses import (
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_fake_loss,
    hinge_generator_loss,
    hinge_real_loss,
    pixel_loss,
    semantic_style_loss,
)

__all__ = [
    "feature_matching_loss",
    "hinge_discriminator_loss",
    "hinge_fake_loss",
    "hinge_generator_loss",
    "hinge_real_loss",
    "pixel_loss",
    "semantic_style_loss",
]
