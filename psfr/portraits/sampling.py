"""Distributions of the attributes of a person: how often each value occurs, its range, and correlations.

Means follow aligned CelebA-HQ photographs. Spreads are somewhat wider: a network that is trained on synthetic images
generalizes better to photographs if the images vary more.
"""

from __future__ import annotations

import numpy as np

from psfr.portraits.person import (
    Accessories,
    BrowParams,
    ClothesKind,
    EyeParams,
    GlassesKind,
    HairCut,
    HairParams,
    HeadShape,
    Light,
    MouthParams,
    Person,
    Pose,
    Scene,
    SkinParams,
)
from psfr.portraits.sampler import Sampler

_SKIN_TONES = (
    np.array([[243, 214, 198], [233, 193, 170], [218, 172, 142], [192, 142, 110], [146, 98, 72], [84, 56, 43]]) / 255
)
_HAIR_COLORS = {
    "black": (0.085, 0.07, 0.065),
    "dark": (0.17, 0.115, 0.085),
    "brown": (0.33, 0.215, 0.145),
    "auburn": (0.44, 0.21, 0.11),
    "ginger": (0.68, 0.36, 0.17),
    "dark_blonde": (0.55, 0.42, 0.28),
    "blonde": (0.80, 0.65, 0.44),
    "gray": (0.52, 0.51, 0.50),
    "white": (0.83, 0.82, 0.80),
}
_METALS = ((0.85, 0.68, 0.35), (0.75, 0.76, 0.78), (0.6, 0.15, 0.2))
_LIPSTICKS = ((0.72, 0.14, 0.18), (0.80, 0.36, 0.40), (0.55, 0.12, 0.20), (0.75, 0.42, 0.36))
_FEMININE_CUTS: dict[HairCut, float] = {
    "long": 8.0,
    "fringe": 1.4,
    "bob": 1.8,
    "curly": 1.0,
    "updo": 2.2,
    "side_part": 0.6,
    "short": 0.4,
}
_MASCULINE_CUTS: dict[HairCut, float] = {
    "short": 4.5,
    "side_part": 2.6,
    "buzz": 1.2,
    "bald": 0.6,
    "receding": 1.2,
    "fringe": 0.7,
    "curly": 0.6,
    "long": 0.7,
}
_IRISES = (
    (0.20, 0.11, 0.06),
    (0.30, 0.18, 0.09),
    (0.40, 0.33, 0.17),
    (0.33, 0.45, 0.42),
    (0.35, 0.50, 0.66),
    (0.45, 0.52, 0.56),
)


def sample_person(rng: np.random.Generator) -> Person:
    """Draw all attributes of one portrait from `rng`; the order of the draws is part of the result."""
    s = Sampler(rng)
    femininity = float(np.clip(rng.beta(0.75, 0.55), 0, 1))
    age = float(rng.beta(1.4, 1.9))
    tone_index = float(np.clip(rng.beta(1.2, 2.0) * 5.2, 0, 5))
    skin = _sample_skin(s, femininity, age, tone_index)
    hair = _sample_hair(s, femininity, age, tone_index)
    return Person(
        femininity=femininity,
        age=age,
        pose=Pose(
            yaw=s.normal(0, 12.0),
            pitch=s.normal(0, 6.0, 2.0),
            roll=s.normal(0, 2.0),
            zoom=s.normal(1.0, 0.04),
            shift=(s.normal(0, 0.004), s.normal(0, 0.004)),
            camera_distance=s.uniform(9, 30),
        ),
        head=_sample_head(s, femininity, age),
        eyes=_sample_eyes(s, femininity, age, tone_index),
        brows=BrowParams(
            height=s.normal(0.255 - 0.02 * (1 - femininity), 0.04),
            thickness=s.normal(0.175 - 0.035 * femininity, 0.028),
            arch=s.normal(0.35 + 0.35 * femininity, 0.25),
            tilt=s.normal(0.02, 0.06),
            inner=s.normal(0.19, 0.035),
            outer=s.normal(0.87, 0.05),
            density=s.uniform(0.35, 1.0),
            frown=s.normal(0.0, 0.03),
        ),
        mouth=_sample_mouth(s, femininity, skin),
        skin=skin,
        hair=hair,
        accessories=_sample_accessories(s, femininity, hair),
        light=_sample_light(s),
        scene=_sample_scene(s, femininity),
    )


def _sample_head(s: Sampler, femininity: float, age: float) -> HeadShape:
    return HeadShape(
        width=s.normal(1.0, 0.05),
        jaw=s.normal(1.03 - 0.06 * femininity, 0.06),
        chin=s.normal(1.03 - 0.08 * femininity, 0.09),
        chin_length=s.normal(0.02 - 0.03 * femininity, 0.08),
        depth=s.normal(1.0, 0.06),
        brow_ridge=s.normal(0.9 - 0.6 * femininity, 0.3),
        socket=s.normal(1.0, 0.25),
        cheek=s.normal(0.8 + 0.2 * femininity, 0.35),
        nose_width=s.normal(1.03 - 0.1 * femininity, 0.12),
        nose_length=s.normal(0.955, 0.045),
        nose_projection=s.normal(1.0, 0.15),
        nose_hump=s.normal(0.0, 0.5),
        nose_bridge=s.normal(1.0, 0.15),
        ear_size=s.normal(1.05 - 0.08 * femininity + 0.1 * age, 0.09),
        ear_protrusion=s.uniform(0.0, 1.0),
        folds=float(np.clip(s.normal(0.35 + 0.6 * age, 0.2), 0, 1.2)),
    )


def _sample_eyes(s: Sampler, femininity: float, age: float, tone_index: float) -> EyeParams:
    makeup = s.uniform(0, 1) if s.bernoulli(0.15 + 0.6 * femininity) else 0.0
    dark = tone_index > 2.6
    iris = _IRISES[int(s.rng.integers(0, 2 if dark else len(_IRISES)))]
    return EyeParams(
        half_width=s.normal(0.187, 0.015),
        upper=max(0.03, s.normal(0.086 + 0.012 * femininity, 0.019)),
        lower=max(0.02, s.normal(0.056, 0.011)),
        tilt=s.normal(0.015, 0.02),
        gaze=(s.normal(0, 0.3), s.normal(0, 0.12)),
        iris_radius=s.normal(0.098, 0.007),
        iris=s.near_color(iris, 0.2),
        lashes=s.uniform(0.2, 0.55) + 0.45 * makeup,
        shadow=makeup * s.uniform(0, 1),
        shadow_hue=s.color(0.8),
        crease=s.uniform(0.2, 1.0),
        bags=float(np.clip(s.normal(0.25 + 0.6 * age, 0.2), 0, 1)),
    )


def _sample_mouth(s: Sampler, femininity: float, skin: SkinParams) -> MouthParams:
    smile = float(np.clip(s.rng.choice([s.normal(0.1, 0.12), s.uniform(0.2, 1.0)], p=[0.35, 0.65]), -0.25, 1))
    open_mouth = s.bernoulli(0.25 + 0.7 * max(smile, 0))
    gap = max(0.02, s.normal(0.07 + 0.1 * smile, 0.045)) if open_mouth else 0.0
    lipstick = s.uniform(0.1, 1.0) if s.bernoulli(0.1 + 0.6 * femininity) else 0.0
    natural = np.array(skin.tone) * (0.86, 0.62, 0.62)
    painted = np.array(_LIPSTICKS[int(s.rng.integers(4))])
    return MouthParams(
        y=s.normal(1.02, 0.045) - 0.03 * max(smile, 0),
        half_width=s.normal(0.345, 0.025) + 0.10 * max(smile, 0),
        upper=s.normal(0.14, 0.028) * (1 - 0.25 * max(smile, 0)) + 0.012 * femininity,
        lower=s.normal(0.195, 0.03) * (1 - 0.1 * max(smile, 0)) + 0.012 * femininity,
        smile=smile,
        gap=gap,
        teeth=float(np.clip(s.normal(0.5 + 0.6 * smile, 0.25), 0, 1)),
        lipstick=lipstick,
        lip_color=s.near_color(natural * (1 - 0.75 * lipstick) + painted * 0.75 * lipstick, 0.07),
        gloss=s.uniform(0.0, 1.0),
    )


def _sample_skin(s: Sampler, femininity: float, age: float, tone_index: float) -> SkinParams:
    low = min(int(tone_index), len(_SKIN_TONES) - 2)
    tone = _SKIN_TONES[low] * (1 - (tone_index - low)) + _SKIN_TONES[low + 1] * (tone_index - low)
    bearded = femininity < 0.6 and s.bernoulli(0.7 * (1 - femininity))
    return SkinParams(
        tone=s.near_color(tone, 0.05),
        redness=s.uniform(0.1, 1.0),
        blotches=s.uniform(0.1, 1.0),
        freckles=s.uniform(0.2, 1.0) if s.bernoulli(0.15) and tone_index < 2.5 else 0.0,
        pores=s.uniform(0.1, 1.0) * (0.5 + 0.5 * age),
        wrinkles=float(np.clip(s.normal(1.3 * age - 0.25, 0.15), 0, 1)),
        oil=s.uniform(0.0, 1.0),
        beard=s.uniform(0.15, 1.0) if bearded else 0.0,
        beard_kind=s.choice({"stubble": 5, "full": 3, "goatee": 1.5, "mustache": 1}),
        blush=s.uniform(0, 0.8) * femininity,
    )


def _sample_hair(s: Sampler, femininity: float, age: float, tone_index: float) -> HairParams:
    cut = s.choice(_FEMININE_CUTS if femininity > 0.5 else _MASCULINE_CUTS)
    if tone_index > 2.8:
        colors = {"black": 6, "dark": 3, "brown": 0.7, "dark_blonde": 0.3, "gray": 2 * age}
    else:
        colors = {
            "black": 1.9,
            "dark": 3.2,
            "brown": 2.6,
            "auburn": 0.8,
            "ginger": 0.4,
            "dark_blonde": 1.6,
            "blonde": 1.7,
            "gray": 2.5 * age**2,
            "white": 1.6 * age**3,
        }
    color = s.near_color(_HAIR_COLORS[s.choice(colors)], 0.14)
    if s.bernoulli(0.02):
        color = s.color(1.0)
    long = cut in ("long", "bob", "fringe", "curly")
    side, top = {
        "bald": (0.0, 0.0),
        "buzz": (0.02, 0.03),
        "receding": (s.uniform(0.04, 0.14), s.uniform(0.03, 0.1)),
        "short": (s.uniform(0.04, 0.2), s.uniform(0.08, 0.45)),
        "side_part": (s.uniform(0.05, 0.3), s.uniform(0.1, 0.4)),
        "fringe": (s.uniform(0.1, 0.6), s.uniform(0.1, 0.35)),
        "bob": (s.uniform(0.2, 0.7), s.uniform(0.1, 0.35)),
        "long": (s.uniform(0.1, 0.9), s.uniform(0.08, 0.4)),
        "curly": (s.uniform(0.25, 1.0), s.uniform(0.2, 0.6)),
        "updo": (s.uniform(0.02, 0.1), s.uniform(0.06, 0.25)),
    }[cut]
    length = {"bob": s.uniform(0.9, 1.5), "long": s.uniform(1.6, 3.2), "curly": s.uniform(0.3, 2.6)}.get(cut, 0.0)
    if cut == "fringe":
        length = s.uniform(1.3, 3.2) if femininity > 0.5 else s.uniform(0.3, 0.9)
    curly = cut == "curly"
    return HairParams(
        cut=cut,
        color=color,
        beard_color=s.near_color(np.array(color) * (0.9, 0.85, 0.8), 0.1),
        hairline=s.normal(-1.13, 0.11),
        recession=(s.uniform(0.25, 0.6) if cut == "receding" else s.uniform(0, 0.2) * (1 - femininity)),
        parting=(
            s.normal(0.0, 0.35)
            if cut in ("long", "bob", "updo", "short")
            else float(s.rng.choice([-1, 1])) * s.uniform(0.3, 0.6)
        ),
        sweep=s.uniform(0.0, 1.0) if cut in ("side_part", "long", "bob") else s.uniform(0, 0.25),
        top=top,
        side=side,
        length=length,
        cover=(s.uniform(0.0, 1.0), s.uniform(0.0, 1.0)) if long else (0.0, 0.0),
        sideburn=s.uniform(-0.2, 0.25) + 0.25 * (1 - femininity),
        fringe=s.uniform(-0.5, -0.2) if cut == "fringe" else 0.0,
        wave=s.uniform(0.08, 0.2) if curly else float(s.rng.choice([0.0, s.uniform(0.02, 0.12)])),
        wave_length=s.uniform(0.25, 0.5) if curly else s.uniform(0.5, 1.4),
        frizz=s.uniform(0.5, 1.0) if curly else s.uniform(0.0, 0.5),
        gloss=s.uniform(0.15, 1.0),
        streaks=s.uniform(0.0, 1.0),
        contrast=s.uniform(0.4, 1.0),
        wisps=s.uniform(0.1, 1.0),
        split=s.uniform(0.0, 1.0),
    )


def _sample_accessories(s: Sampler, femininity: float, hair: HairParams) -> Accessories:
    # More often than in photographs, so that a few hundred portraits suffice to learn these labels.
    glasses: GlassesKind = s.choice({"none": 0.80, "clear": 0.16, "sun": 0.04})
    opacity = {"none": 0.0, "clear": s.uniform(0.0, 0.15), "sun": s.uniform(0.75, 0.98)}[glasses]
    return Accessories(
        glasses=glasses,
        lens_size=s.normal(1.0, 0.13),
        lens_round=s.uniform(2.0, 5.0),
        frame_width=0.008 + 0.05 * float(s.rng.beta(1, 2)),
        frame_color=s.color(0.4) if s.bernoulli(0.4) else s.near_color((0.08, 0.07, 0.07), 0.3),
        lens_color=s.near_color((0.10, 0.09, 0.09), 0.5),
        lens_opacity=opacity,
        hat=s.choice({"none": 0.79, "beanie": 0.07, "cap": 0.07, "brim": 0.07}),
        hat_color=s.color(0.8),
        hat_line=s.normal(-0.85, 0.13),
        hat_height=s.uniform(0.1, 0.5),
        earrings=s.choice(
            {
                "none": 1 - 0.85 * femininity,
                "stud": 0.2 * femininity,
                "drop": 0.35 * femininity,
                "hoop": 0.3 * femininity,
            }
        ),
        earring_size=s.uniform(1.4, 2.8),
        metal=s.near_color(_METALS[int(s.rng.choice(3, p=[0.5, 0.4, 0.1]))], 0.1),
        necklace=s.bernoulli(0.1 + 0.4 * femininity),
        necklace_drop=s.uniform(0.02, 0.42),
        necklace_size=0.035 + 0.075 * float(s.rng.beta(1.3, 1.5)),
        pearls=s.bernoulli(0.4),
    )


def _sample_light(s: Sampler) -> Light:
    azimuth = np.radians(s.normal(0, 42 if s.bernoulli(0.5) else 16))
    height = np.radians(s.normal(24, 16))
    key = np.array([np.sin(azimuth) * np.cos(height), -np.sin(height), np.cos(azimuth) * np.cos(height)])
    warmth = s.normal(0, 0.09)
    other = s.normal(0, 0.07)
    return Light(
        key=(float(key[0]), float(key[1]), float(key[2])),
        key_color=(1 + warmth, 1.0, 1 - warmth),
        key_strength=s.uniform(0.6, 1.2),
        fill=(-float(np.sign(key[0]) or 1.0) * 0.6, -0.15, 0.78),
        fill_color=(1 + other, 1.0, 1 - other),
        fill_strength=s.uniform(0.1, 0.5),
        rim_strength=s.uniform(0.0, 0.5) if s.bernoulli(0.4) else 0.0,
        ambient=s.uniform(0.2, 0.7),
        hardness=s.uniform(0.2, 1.0),
    )


def _sample_scene(s: Sampler, femininity: float) -> Scene:
    clothes: dict[ClothesKind, float]
    if femininity > 0.5:
        clothes = {"none": 0.8, "straps": 1.8, "crew": 2, "v_neck": 2, "shirt": 0.8, "suit": 0.5, "turtleneck": 0.5}
    else:
        clothes = {"none": 0.5, "crew": 3, "v_neck": 1, "shirt": 2.5, "suit": 3, "turtleneck": 0.5}
    balance = s.normal(0, 0.05)
    tint = s.normal(0, 0.02)
    return Scene(
        clothes=s.choice(clothes),
        cloth_color=s.color(0.8),
        cloth_second=s.color(0.8),
        cloth_pattern=s.choice({"plain": 6, "stripes": 1, "plaid": 1, "knit": 1.5, "spots": 0.7}),
        neck_width=s.normal(0.78 - 0.1 * femininity, 0.06),
        shoulder=s.normal(0.3, 0.75),
        body_shift=s.normal(0.0, 0.25),
        body_tilt=s.normal(0.0, 0.14),
        backdrop=s.choice({"studio": 2.5, "blobs": 4, "bokeh": 1.2, "panels": 2, "texture": 1.3, "plain": 1.2}),
        backdrop_color=s.color(0.9),
        backdrop_second=s.color(0.9),
        exposure=s.normal(0.0, 0.22),
        gamma=s.normal(1.0, 0.12),
        white_balance=(1 + balance, 1 + tint, 1 - balance),
        saturation=float(np.clip(s.normal(1.12, 0.18), 0.5, 1.7)) if s.bernoulli(0.96) else 0.0,
        contrast=s.normal(1.0, 0.12),
        vignette=s.uniform(0, 0.4) if s.bernoulli(0.4) else 0.0,
        grain=float(s.rng.beta(1, 4)),
        blur=float(s.rng.beta(1, 3)),
        haze=float(s.rng.beta(1, 6)),
    )
