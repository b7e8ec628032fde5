"""What is kept of a DICOM header: a closed list of technical attributes, each proven to be what it should be.

Made from a data set that deidentify has cleaned; the list does not rely on that."""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from pydicom.dataset import Dataset

from medgr2.infra.pictures.deidentify import EDITION, values_of
from medgr2.infra.pictures.dicom_terms import body_part

CODES = ["113100", "113107", "113108"]
"""CID 7050: Basic Profile; Retain Longitudinal Temporal Information with Modified Dates; Retain Patient
Characteristics (of them, the sex and the decade of the age)."""


@cache
def _library() -> str:
    return f"dicom-anonymizer {importlib.metadata.version('dicom-anonymizer')}"


def _one_of(words: str) -> Callable[[Any], Any]:
    known = frozenset(words.split("|"))
    return lambda value: value if isinstance(value, str) and value in known else None


def _number(lowest: float, highest: float) -> Callable[[Any], Any]:
    def checked(value: Any) -> float | None:
        number = float(value)
        return round(number, 6) if math.isfinite(number) and lowest <= number <= highest else None

    return checked


def _whole(lowest: int, highest: int) -> Callable[[Any], Any]:
    return lambda value: int(value) if float(value) == int(value) and lowest <= int(value) <= highest else None


def _pseudonym(value: Any) -> str | None:
    # Only what the cleaning made: an original UID names a hospital, a device and a second.
    return str(value) if re.fullmatch(r"2\.25\.\d{1,39}", str(value)) else None


def _moved_date(value: Any) -> str | None:
    return str(value) if re.fullmatch(r"\d{8}", str(value)) else None


_KEPT: dict[str, Callable[[Any], Any]] = {
    "Modality": _one_of("CR|DX|DR|MG|RF|XA|PX|IO|CT|MR|US|IVUS|OP|OPT|OCT|IVOCT|SM|GM|DMS|XC|ES|NM|PT|OT"),
    "BodyPartExamined": lambda value: body_part(str(value)),
    "ViewPosition": _one_of("AP|PA|LL|RL|RLD|LLD|RLO|LLO|CC|MLO|ML|LM|LMO|XCCL|XCCM|FB|SIO|ISO|CV|AT|LATERAL"),
    "Laterality": _one_of("L|R"),
    "ImageLaterality": _one_of("L|R|U|B"),
    "PatientSex": _one_of("F|M|O"),
    "PatientPosition": _one_of("HFP|HFS|HFDR|HFDL|FFP|FFS|FFDR|FFDL|LFP|LFS|RFP|RFS"),
    "MRAcquisitionType": _one_of("2D|3D"),
    "ScanningSequence": _one_of("SE|IR|GR|EP|RM"),
    "PhotometricInterpretation": _one_of(
        "MONOCHROME1|MONOCHROME2|PALETTE COLOR|RGB|YBR_FULL|YBR_FULL_422|YBR_ICT|YBR_RCT"
    ),
    "LossyImageCompression": _one_of("00|01"),
    "Rows": _whole(1, 65535),
    "Columns": _whole(1, 65535),
    "BitsStored": _whole(1, 64),
    "NumberOfFrames": _whole(1, 1_000_000),
    "SliceThickness": _number(0.001, 500),
    "SpacingBetweenSlices": _number(-500, 500),
    "PixelSpacing": _number(0.00001, 100),
    "ImagerPixelSpacing": _number(0.00001, 100),
    "KVP": _number(1, 1000),
    "MagneticFieldStrength": _number(0.001, 30),
    "RepetitionTime": _number(0, 100_000),
    "EchoTime": _number(0, 10_000),
    "FlipAngle": _number(0, 360),
    "StudyDate": _moved_date,
    "StudyInstanceUID": _pseudonym,
    "SeriesInstanceUID": _pseudonym,
    "SOPInstanceUID": _pseudonym,
}


def kept_header(ds: Dataset) -> dict[str, Any]:
    """From a cleaned data set: the technical attributes worth having, as JSON values."""
    header: dict[str, Any] = {}
    for keyword, check in _KEPT.items():
        try:
            values = values_of(ds[keyword]) if keyword in ds else []
            checked = [check(value) for value in values[:4]]
        except Exception:
            checked = []
        if checked and None not in checked:
            header[keyword] = checked[0] if len(checked) == 1 else checked
    header["deidentified"] = {
        "profile": f"DICOM PS3.15 {EDITION} Basic Application Level Confidentiality Profile",
        "codes": list(CODES),
        "library": _library(),
    }
    return header


def age_band(age: str) -> str | None:
    """'047Y' -> '40-49'; everybody over 89 is '90+', as the rules for health data ask."""
    match = re.fullmatch(r"(\d{3})([YMWD])", age.strip())
    if match is None:
        return None
    years = int(match[1]) if match[2] == "Y" else 0
    if years > 130:
        return None
    return "90+" if years >= 90 else f"{years // 10 * 10}-{years // 10 * 10 + 9}"
