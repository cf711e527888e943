"""Who is drawn: every attribute of a portrait, independent of the picture's size."""

from __future__ import annotations

from dataclasses import dataclass

CUTS = ("bald", "buzz", "short", "side_part", "fringe", "bob", "long", "curly", "updo", "receding")
HATS = ("none", "beanie", "cap", "brim")
GLASSES = ("none", "clear", "sun")
CLOTHES = ("none", "crew", "v_neck", "shirt", "suit", "turtleneck", "straps")
BACKDROPS = ("studio", "blobs", "bokeh", "panels", "texture", "plain")


@dataclass(frozen=True)
class Pose:
    """Head rotation in degrees (yaw to the picture's right, pitch downwards) and the residual error of the crop."""

    yaw: float
    pitch: float
    roll: float
    zoom: float
    shift: tuple[float, float]
    camera_distance: float


@dataclass(frozen=True)
class HeadShape:
    """Proportions of the head; widths and lengths are factors around 1, the rest strengths around 0 to 1."""

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
    ear_stand: float
    folds: float


@dataclass(frozen=True)
class EyeLook:
    """Eye openings (half sizes in eye distances), gaze in iris radii, iris colour as sRGB in [0, 1]."""

    half_width: float
    upper: float
    lower: float
    tilt: float
    gaze: tuple[float, float]
    iris_radius: float
    iris: tuple[float, float, float]
    lashes: float
    shadow: float
    shadow_hue: tuple[float, float, float]
    crease: float
    bags: float


@dataclass(frozen=True)
class BrowLook:
    """Brows: height over the eyes, thickness and length in eye distances; arch and density around 0 to 1."""

    height: float
    thickness: float
    arch: float
    tilt: float
    inner: float
    outer: float
    density: float
    frown: float


@dataclass(frozen=True)
class MouthLook:
    """Mouth: sizes in eye distances; `smile` -0.3 to 1; `gap` is the opening between the lips."""

    y: float
    half_width: float
    upper: float
    lower: float
    smile: float
    gap: float
    teeth: float
    lipstick: float
    lip_color: tuple[float, float, float]
    gloss: float


@dataclass(frozen=True)
class SkinLook:
    """Skin: sRGB tone in [0, 1] and strengths in [0, 1] of what varies on it."""

    tone: tuple[float, float, float]
    redness: float
    blotches: float
    freckles: float
    pores: float
    wrinkles: float
    oil: float
    beard: float
    beard_kind: str
    blush: float


@dataclass(frozen=True)
class HairLook:
    """Hair: cut, lengths in eye distances, sRGB colour in [0, 1], strengths in [0, 1]."""

    cut: str
    color: tuple[float, float, float]
    beard_color: tuple[float, float, float]
    hairline: float
    recession: float
    part: float
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
    """What the person wears on the head and neck."""

    glasses: str
    lens_size: float
    lens_round: float
    frame_width: float
    frame_color: tuple[float, float, float]
    lens_color: tuple[float, float, float]
    lens_opacity: float
    hat: str
    hat_color: tuple[float, float, float]
    hat_line: float
    hat_height: float
    earrings: str
    earring_size: float
    metal: tuple[float, float, float]
    necklace: bool
    necklace_drop: float
    necklace_size: float
    pearls: bool


@dataclass(frozen=True)
class Light:
    """Lamps: unit direction towards the key light in camera space, relative strengths and linear RGB colours."""

    key: tuple[float, float, float]
    key_color: tuple[float, float, float]
    key_strength: float
    fill: tuple[float, float, float]
    fill_color: tuple[float, float, float]
    fill_strength: float
    rim_strength: float
    ambient: float
    hardness: float


@dataclass(frozen=True)
class Scene:
    """Clothes, background and the photographic finish."""

    clothes: str
    cloth_color: tuple[float, float, float]
    cloth_second: tuple[float, float, float]
    cloth_pattern: str
    neck_width: float
    shoulder: float
    body_shift: float
    body_tilt: float
    backdrop: str
    backdrop_color: tuple[float, float, float]
    backdrop_second: tuple[float, float, float]
    exposure: float
    gamma: float
    white_balance: tuple[float, float, float]
    saturation: float
    contrast: float
    vignette: float
    grain: float
    blur: float
    haze: float


@dataclass(frozen=True)
class Person:
    """A drawn person, complete."""

    femininity: float
    age: float
    pose: Pose
    head: HeadShape
    eyes: EyeLook
    brows: BrowLook
    mouth: MouthLook
    skin: SkinLook
    hair: HairLook
    worn: Accessories
    light: Light
    scene: Scene
