"""One phantom: the scene that is true of it, and the picture that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from medgr2_phantoms import anatomy
from medgr2_phantoms.anatomy import Field, Structure, band, disc

if TYPE_CHECKING:
    from PIL.Image import Image

Site = Literal["clean", "ward"]
SIDE = 64  # drawn; each quadrant of the picture is one 16 px patch after the processor halves it

FINDINGS = ("normal", "nodule", "cyst", "haemorrhage", "calcification", "fibrosis")
GRADES = ("absent", "mild", "moderate", "severe")
PLACES = ("upper left", "upper right", "lower left", "lower right", "nowhere")
RADIUS = {"mild": 0.17, "moderate": 0.27, "severe": 0.38}


@dataclass(frozen=True)
class Look:
    """How a modality turns structure into colour: dark and bright end, frame and speckle."""

    structures: dict[str, Structure]
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    frame: Literal["none", "fan", "round", "border", "vignette"] = "none"
    speckle: float = 0.0


LOOKS: dict[str, Look] = {
    "CT": Look(anatomy.RADIOLOGY, (0.08, 0.08, 0.08), (0.72, 0.72, 0.72)),
    "MRI": Look(anatomy.RADIOLOGY, (0.30, 0.30, 0.38), (0.62, 0.62, 0.80), "vignette"),
    "X-Ray": Look(anatomy.RADIOLOGY, (0.70, 0.72, 0.70), (0.22, 0.24, 0.22), "border"),
    "Ultrasound": Look(anatomy.RADIOLOGY, (0.15, 0.15, 0.12), (0.70, 0.68, 0.60), "fan", 0.25),
    "Dermoscopy": Look(anatomy.SKIN, (0.42, 0.26, 0.20), (0.86, 0.66, 0.56)),
    "Fundus Photography": Look(anatomy.RETINA, (0.40, 0.10, 0.05), (0.95, 0.50, 0.22), "round"),
    "OCT": Look(anatomy.RETINA_LAYERS, (0.05, 0.12, 0.08), (0.55, 0.85, 0.60), "none", 0.15),
    "Microscopy": Look(anatomy.TISSUE, (0.90, 0.82, 0.90), (0.45, 0.22, 0.55)),
}
MODALITIES = tuple(LOOKS)


class Scene(BaseModel):
    """What is true of one phantom, and the individual traits that make it a different patient."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: str
    anatomy: str
    finding: str
    grade: str
    quadrant: str
    shift_x: float
    shift_y: float
    tilt: float
    zoom: float
    brightness: float
    clarity: float  # 0 = the hardest the site has, 1 = the easiest
    texture: int


def anatomies(modality: str) -> tuple[str, ...]:
    """The anatomies that this modality is used on."""
    return tuple(LOOKS[modality].structures)


def sample_scene(rng: np.random.Generator, **fixed: str) -> Scene:
    """A random scene; fixed labels are kept and the rest is drawn so that the scene stays coherent."""
    modality = fixed.get("modality")
    if modality is None:
        able = [name for name in MODALITIES if fixed.get("anatomy", anatomies(name)[0]) in anatomies(name)]
        modality = str(rng.choice(able))
    healthy = fixed.get("finding") == "normal" or fixed.get("grade") == "absent" or fixed.get("quadrant") == "nowhere"
    if not healthy and not fixed.keys() & {"finding", "grade", "quadrant"}:
        healthy = bool(rng.random() < 0.2)
    traits = rng.uniform(-1.0, 1.0, size=6)
    return Scene(
        modality=modality,
        anatomy=fixed.get("anatomy") or str(rng.choice(anatomies(modality))),
        finding="normal" if healthy else fixed.get("finding") or str(rng.choice(FINDINGS[1:])),
        grade="absent" if healthy else fixed.get("grade") or str(rng.choice(GRADES[1:])),
        quadrant="nowhere" if healthy else fixed.get("quadrant") or str(rng.choice(PLACES[:4])),
        shift_x=round(0.09 * traits[0], 4),
        shift_y=round(0.09 * traits[1], 4),
        tilt=round(0.12 * traits[2], 4),
        zoom=round(1.0 + 0.08 * traits[3], 4),
        brightness=round(0.07 * traits[4], 4),
        clarity=round(0.5 + 0.5 * traits[5], 4),
        texture=int(rng.integers(2**62)),
    )


_AXIS = (np.arange(SIDE) + 0.5) / SIDE * 2.0 - 1.0
_X, _Y = np.meshgrid(_AXIS, _AXIS)


def _lesion(scene: Scene, rng: np.random.Generator) -> Field:
    """Signed contrast of the lesion, within [-1, 1]; zero everywhere for a normal scene."""
    if scene.finding == "normal":
        return np.zeros((SIDE, SIDE))
    column = -0.5 if "left" in scene.quadrant else 0.5
    row = -0.5 if "upper" in scene.quadrant else 0.5
    x = _X - column - rng.uniform(-0.06, 0.06)
    y = _Y - row - rng.uniform(-0.06, 0.06)
    radius = RADIUS[scene.grade] * rng.uniform(0.93, 1.07)
    spot = disc(x, y, radius)
    if scene.finding == "nodule":
        return spot
    if scene.finding == "cyst":
        return spot - 1.8 * disc(x, y, radius - 0.1)
    if scene.finding == "haemorrhage":
        wobble = radius * (1.0 + 0.2 * np.sin(3.0 * np.arctan2(y, x) + rng.uniform(0.0, 6.3)))
        return -disc(x, y, wobble)
    if scene.finding == "calcification":
        return spot * np.clip(4.0 * np.sin(18.0 * x) * np.sin(18.0 * y), -0.4, 1.0)
    return spot * np.clip(3.0 * np.sin(20.0 * (x + y) / 1.414), -1.0, 1.0)


def _field(rng: np.random.Generator) -> Field:
    """A smooth random field of unit size: coil shading, skin tone, uneven light."""
    total = np.zeros((SIDE, SIDE))
    for u, v, phase, size in rng.uniform(-1.0, 1.0, size=(9, 4)):
        total += size * np.cos(7.0 * (u * _X + v * _Y) + 3.1416 * phase)
    return total / 2.0


def _frame(look: Look, picture: Field) -> Field:
    if look.frame == "fan":
        reach = band(np.arctan2(_X, _Y + 1.45), 0.8, 0.03) * np.clip((2.35 - np.hypot(_X, _Y + 1.45)) / 0.05, 0.0, 1.0)
        return picture * reach[..., None]
    if look.frame == "round":
        return picture * disc(_X, _Y, 0.97)[..., None]
    if look.frame == "vignette":
        return picture * (1.0 - 0.35 * np.clip(np.hypot(_X, _Y) - 0.6, 0.0, 1.0))[..., None]
    if look.frame == "border":
        edge = np.maximum(np.abs(_X), np.abs(_Y)) > 0.94
        return np.where(edge[..., None], 0.97, picture)
    return picture


def pixels(scene: Scene, site: Site) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The picture of a scene as SIDE x SIDE x 3 bytes; the same scene and site always give the same bytes."""
    rng = np.random.default_rng(scene.texture)
    look = LOOKS[scene.modality]
    x = (_X * np.cos(scene.tilt) - _Y * np.sin(scene.tilt)) * scene.zoom + scene.shift_x
    y = (_X * np.sin(scene.tilt) + _Y * np.cos(scene.tilt)) * scene.zoom + scene.shift_y
    if site == "clean":
        contrast, depth, noise, shading = 0.34 + 0.08 * scene.clarity, 1.0, 0.03, 0.05
    else:
        contrast, depth, noise, shading = 0.10 + 0.20 * scene.clarity, 0.62, 0.075, 0.10
    structure = 0.5 + depth * (look.structures[scene.anatomy](x, y) - 0.5)
    low, high = np.asarray(look.low), np.asarray(look.high)
    picture = low + (high - low) * structure[..., None]
    picture = picture + contrast * _lesion(scene, rng)[..., None]
    picture = picture + scene.brightness + shading * _field(rng)[..., None]
    picture = picture * (1.0 + look.speckle * rng.standard_normal((SIDE, SIDE, 1)))
    picture = _frame(look, picture) + noise * rng.standard_normal((SIDE, SIDE, 1))
    return (np.clip(picture, 0.0, 1.0) * 255.0).round().astype(np.uint8)


def draw(scene: Scene, site: Site) -> Image:
    """The picture of a scene."""
    from PIL import Image as pil

    return pil.fromarray(pixels(scene, site), "RGB")
