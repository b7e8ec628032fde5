"""Other people's words for ours: what hospitals and benchmarks call the eight modalities and the splits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeVar

from medgr2.schemas.vocabulary import Modality, Split

_MODALITIES = {
    Modality.CT: "ct, cat, computed tomography, computed axial tomography, computerised tomography, "
    "computerized tomography, cbct, cone beam ct, hrct, ldct, cta, ct angiography",
    Modality.MRI: "mr, mri, magnetic resonance, magnetic resonance imaging, nmr, fmri, mra, mr angiography",
    Modality.XRAY: "xray, xr, cr, dx, dr, mg, rg, rf, xa, px, io, fluoroscopy, plain film, radiograph, radiography, "
    "digital radiography, computed radiography, roentgen, cxr, chest xray, chest radiograph, mammography, "
    "mammogram, dental xray, panoramic xray",
    Modality.ULTRASOUND: "us, ivus, ultrasound, ultrasonography, ultrasonic, sonography, sonogram, echo, "
    "echocardiography, echocardiogram, doppler",
    Modality.DERMOSCOPY: "dermoscopy, dermatoscopy, dermoscopic, dermatoscopic, dermoscope, dermatoscope, der, dms, "
    "epiluminescence microscopy",
    Modality.FUNDUS: "fundus photography, fundus, fundus photo, fundus photograph, colour fundus, color fundus, "
    "colour fundus photograph, color fundus photograph, colour fundus photography, color fundus photography, "
    "retinal photography, retinal photograph, retinal fundus, ocular fundus, cfp, fp, op, ophthalmic photography",
    Modality.OCT: "oct, opt, ivoct, optical coherence tomography, ophthalmic tomography, sd oct, ss oct, octa",
    Modality.MICROSCOPY: "microscopy, micro, microscope, microscopic, sm, gm, slide microscopy, general microscopy, "
    "light microscopy, histopathology, histology, histopathological, pathology, cytology, cytopathology, whole slide, "
    "wsi, digital pathology, blood smear, h and e",
}  # fmt: skip
_SPLITS = {
    Split.TRAIN: "train, training, trainset",
    Split.VALIDATION: "val, valid, validate, validation, dev, development, valset",
    Split.HELDOUT: "test, testing, heldout, held out, holdout, hold out, testset",
}
_T = TypeVar("_T", Modality, Split)
_NOISE = (
    "images", "image", "pictures", "picture", "photos", "photo", "scans", "scan", "slides", "slide", "films", "film",
)  # fmt: skip


def squashed(text: str) -> str:
    """Lower-case letters and digits only: 'X-Ray', 'x ray' and 'X_RAY' are one word."""
    return re.sub(r"[\W_]+", "", text.replace("&", " and ").casefold())


def _table(words: dict[_T, str]) -> dict[str, _T]:
    return {squashed(one): ours for ours, theirs in words.items() for one in theirs.split(",")}


_MODALITY_OF = _table(_MODALITIES)
_SPLIT_OF = _table(_SPLITS)


def modality_named(text: str) -> Modality | None:
    """The modality meant by `text`, or None: 'XR', 'Colour fundus photograph', 'MR (Magnetic Resonance Imaging)'."""
    for reading in _readings(text):
        if found := _MODALITY_OF.get(reading):
            return found
    return None


def split_named(text: str) -> Split | None:
    """The split meant by `text`, or None. Nobody may quarantine by label: that is the audit's to say."""
    return _SPLIT_OF.get(squashed(text))


def _readings(text: str) -> Iterator[str]:
    before, _, inside = text.partition("(")
    for part in (text, before, inside):
        word = squashed(part)
        yield word
        for noise in _NOISE:
            if word.endswith(noise):
                yield word.removesuffix(noise)
                break
