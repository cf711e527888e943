"""Attributes of one portrait, independent of the image size.

Colors are sRGB in [0, 1] unless stated otherwise. Lengths are in eye distances: the eye centers are 1 apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Color = tuple[float, float, float]
"""Red, green, blue."""

HairCut = Literal["bald", "buzz", "short", "side_part", "fringe", "bob", "long", "curly", "updo", "receding"]
BeardKind = Literal["stubble", "full", "goatee", "mustache"]
GlassesKind = Literal["none", "clear", "sun"]
HatKind = Literal["none", "beanie", "cap", "brim"]
EarringKind = Literal["none", "stud", "drop", "hoop"]
ClothesKind = Literal["none", "crew", "v_neck", "shirt", "suit", "turtleneck", "straps"]
ClothPattern = Literal["plain", "stripes", "plaid", "knit", "spots"]
BackdropKind = Literal["studio", "blobs", "bokeh", "panels", "texture", "plain"]


@dataclass(frozen=True)
class Pose:
    """Pose of the head and offset of the crop.

    `yaw` (positive turns to the right of the image), `pitch` (positive turns down) and `roll` are in degrees. `zoom`
    and `shift` (fractions of the image side) are the error of the alignment. `camera_distance` is in eye distances.
    """

    yaw: float
    pitch: float
    roll: float
    zoom: float
    shift: tuple[float, float]
    camera_distance: float


@dataclass(frozen=True)
class HeadShape:
    """Proportions of the head. Widths, lengths and sizes are factors around 1, the rest are strengths around 0 to 1."""

    width: float
    jaw: float
    chin: float
    chin_length: float
    depth: float
    brow_ridge: float
    socket: float
    cheek: float
    nose_width: float
    nose_length: float
    nose_projection: float
    nose_hump: float
    nose_bridge: float
    ear_size: float
    ear_protrusion: float
    folds: float


@dataclass(frozen=True)
class EyeParams:
    """Eyes.

    `half_width`, `upper`, `lower` (half sizes of the opening) and `iris_radius` are in eye distances, `gaze` is in iris
    radii; `lashes`, `shadow`, `crease` and `bags` are strengths in [0, 1].
    """

    half_width: float
    upper: float
    lower: float
    tilt: float
    gaze: tuple[float, float]
    iris_radius: float
    iris: Color
    lashes: float
    shadow: float
    shadow_hue: Color
    crease: float
    bags: float


@dataclass(frozen=True)
class BrowParams:
    """Eyebrows: height above the eyes, thickness and ends in eye distances; arch and density around 0 to 1."""

    height: float
    thickness: float
    arch: float
    tilt: float
    inner: float
    outer: float
    density: float
    frown: float


@dataclass(frozen=True)
class MouthParams:
    """Mouth: sizes in eye distances; `smile` in [-0.25, 1]; `gap` is the opening between the lips."""

    y: float
    half_width: float
    upper: float
    lower: float
    smile: float
    gap: float
    teeth: float
    lipstick: float
    lip_color: Color
    gloss: float


@dataclass(frozen=True)
class SkinParams:
    """Skin: base color and strengths in [0, 1] of its variations."""

    tone: Color
    redness: float
    blotches: float
    freckles: float
    pores: float
    wrinkles: float
    oil: float
    beard: float
    beard_kind: BeardKind
    blush: float


@dataclass(frozen=True)
class HairParams:
    """Hair.

    `hairline` (y), `parting` (x), `top`, `side`, `length` (y of the lower end) and `wave_length` are in eye distances,
    the rest are strengths around 0 to 1. `cover`: how far the hair covers the cheek, left and right.
    """

    cut: HairCut
    color: Color
    beard_color: Color
    hairline: float
    recession: float
    parting: float
    sweep: float
    top: float
    side: float
    length: float
    cover: tuple[float, float]
    sideburn: float
    fringe: float
    wave: float
    wave_length: float
    frizz: float
    gloss: float
    streaks: float
    contrast: float
    wisps: float
    split: float


@dataclass(frozen=True)
class Accessories:
    """Glasses, hat, earrings and necklace."""

    glasses: GlassesKind
    lens_size: float
    lens_round: float
    frame_width: float
    frame_color: Color
    lens_color: Color
    lens_opacity: float
    hat: HatKind
    hat_color: Color
    hat_line: float
    hat_height: float
    earrings: EarringKind
    earring_size: float
    metal: Color
    necklace: bool
    necklace_drop: float
    necklace_size: float
    pearls: bool


@dataclass(frozen=True)
class Light:
    """Lamps: unit vectors to the key and fill light in camera coordinates, relative strengths and linear RGB colors."""

    key: tuple[float, float, float]
    key_color: Color
    key_strength: float
    fill: tuple[float, float, float]
    fill_color: Color
    fill_strength: float
    rim_strength: float
    ambient: float
    hardness: float


@dataclass(frozen=True)
class Scene:
    """Clothes, background and photographic finish."""

    clothes: ClothesKind
    cloth_color: Color
    cloth_second: Color
    cloth_pattern: ClothPattern
    neck_width: float
    shoulder: float
    body_shift: float
    body_tilt: float
    backdrop: BackdropKind
    backdrop_color: Color
    backdrop_second: Color
    exposure: float
    gamma: float
    white_balance: Color
    saturation: float
    contrast: float
    vignette: float
    grain: float
    blur: float
    haze: float


@dataclass(frozen=True)
class Person:
    """All attributes of one portrait."""

    femininity: float
    age: float
    pose: Pose
    head: HeadShape
    eyes: EyeParams
    brows: BrowParams
    mouth: MouthParams
    skin: SkinParams
    hair: HairParams
    accessories: Accessories
    light: Light
    scene: Scene
