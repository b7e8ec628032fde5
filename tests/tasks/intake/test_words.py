"""Other people's words for the modalities and the splits."""

from __future__ import annotations

import pytest

from medgr2.infra.pictures.dicom_terms import MODALITIES
from medgr2.schemas.vocabulary import Modality, Split
from medgr2.tasks.intake.words import modality_named, split_named


@pytest.mark.parametrize("modality", list(Modality))
def test_our_own_words_are_understood(modality: Modality) -> None:
    for text in (modality.value, modality.value.upper(), modality.value.lower(), f" {modality.value} images "):
        assert modality_named(text) is modality


@pytest.mark.parametrize(("code", "modality"), MODALITIES.items())
def test_the_codes_of_dicom_mean_the_same_here_as_in_a_header(code: str, modality: Modality) -> None:
    assert modality_named(code) is modality


@pytest.mark.parametrize(
    ("text", "modality"),
    [
        ("Magnetic Resonance Imaging", Modality.MRI), ("MR (Mag-netic Resonance Imaging)", Modality.MRI),
        ("ultra sound", Modality.ULTRASOUND), ("Colour fundus photograph", Modality.FUNDUS),
        ("CT(Computed Tomography)", Modality.CT), ("CT scan", Modality.CT), ("radiograph", Modality.XRAY),
        ("x_ray", Modality.XRAY), ("histopathology", Modality.MICROSCOPY), ("Microscopy Images", Modality.MICROSCOPY),
        ("OCT (Optical Coherence Tomography", Modality.OCT), ("H&E", Modality.MICROSCOPY),
    ],
)  # fmt: skip
def test_usual_words(text: str, modality: Modality) -> None:
    assert modality_named(text) is modality


@pytest.mark.parametrize("text", ["Crystal ball", "Endoscopy", "", "()", "image", "PET", "photo"])
def test_other_words_are_no_modality(text: str) -> None:
    assert modality_named(text) is None


@pytest.mark.parametrize(
    ("text", "split"),
    [("Train", Split.TRAIN), ("dev", Split.VALIDATION), ("held-out", Split.HELDOUT), ("TEST", Split.HELDOUT),
     ("quarantined", None), ("fold3", None), ("", None)],
)  # fmt: skip
def test_splits(text: str, split: Split | None) -> None:
    assert split_named(text) is split
