"""DICOM headers, de-identified: PS3.15 Table E.1-1 by dicom-anonymizer's edition of it, on every level of nesting.

Imported only where a DICOM file is read. The table's functions act on one level and draw dates and UIDs at random;
here they are applied to each item of each sequence, and dates and UIDs go through the project's pseudonyms. Of the
cleaned header only a closed list of technical attributes is kept, each checked again by its type."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from dicomanonymizer.simpledicomanonymizer import initialize_actions
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from medgr2.infra.pictures.dicom_terms import body_part
from medgr2.infra.pseudonyms import Pseudonyms

EDITION = "2026c"
CODES = ["113100", "113107", "113108"]
"""CID 7050: Basic Profile; Retain Longitudinal Temporal Information with Modified Dates; Retain Patient
Characteristics (of them, the sex and the decade of the age)."""

Action = Callable[[Dataset, tuple[int, int]], None]


def deidentify(ds: Dataset, pseudonyms: Pseudonyms, patient: str) -> Counter[str]:
    """In place. Gives what was found and removed or replaced: 'dicom:Keyword', 'dicom:Sequence.Keyword'; no values."""
    found: Counter[str] = Counter()
    _clean(ds, "dicom:", found, pseudonyms, pseudonyms.days(patient))
    meta = getattr(ds, "file_meta", None)
    if meta is not None:
        _clean(meta, "dicom:", found, pseudonyms, pseudonyms.days(patient))
    return found


def _clean(ds: Dataset, place: str, found: Counter[str], pseudonyms: Pseudonyms, days: int) -> None:
    for tag in list(ds.keys()):
        if tag.is_private:
            if not _is_empty(ds, tag) and not tag.is_private_creator:
                found[f"{place}private"] += 1
            del ds[tag]
            continue
        keyword = keyword_for_tag(tag)
        action = _rule(tag)
        if not keyword and action is None:
            # Retired, misspelt or made up: nobody can say what it holds.
            if not _is_empty(ds, tag) and tag.element != 0:
                found[f"{place}unknown"] += 1
            del ds[tag]
            continue
        vr = _vr(tag)
        if action is not None:
            if not _is_empty(ds, tag):
                found[f"{place}{keyword or 'repeating'}"] += 1
            _apply(action, ds, tag, vr, pseudonyms, days)
        elif vr in {"DA", "DT", "TM", "PN"}:
            # Not in the table, and still a person's or a day's.
            if not _is_empty(ds, tag):
                found[f"{place}{keyword}"] += 1
            _apply(None, ds, tag, vr, pseudonyms, days)
        elif vr == "SQ":
            try:
                items = ds[tag].value
                for item in items:
                    _clean(item, f"{place}{keyword}.", found, pseudonyms, days)
            except Exception:
                found[f"{place}{keyword}"] += 1
                del ds[tag]


def _apply(action: Action | None, ds: Dataset, tag: BaseTag, vr: str, pseudonyms: Pseudonyms, days: int) -> None:
    """What cannot be cleaned goes: the table's functions do not know every type."""
    try:
        if vr in {"DA", "DT"}:
            moved = [shifted(str(one), days) for one in _values(ds[tag])]
            if not moved or None in moved:
                del ds[tag]
            else:
                ds[tag] = DataElement(tag, vr, moved if len(moved) > 1 else moved[0])
        elif vr in {"TM", "PN"}:
            del ds[tag]
        elif vr == "UI":
            uids = [pseudonyms.uid(str(one)) for one in _values(ds[tag]) if str(one)]
            ds[tag] = DataElement(tag, vr, uids if len(uids) != 1 else uids[0])
        elif vr == "SQ":
            # Where the table allows to remove, empty or replace a sequence, it is removed.
            del ds[tag]
        elif action is not None:
            action(ds, (tag.group, tag.element))
    except Exception:
        if tag in ds:
            del ds[tag]


def shifted(text: str, days: int) -> str | None:
    """A DA or DT value, moved; its time of day is dropped. Anything that is not a full, real date is dropped whole."""
    match = re.fullmatch(r"(\d{4})(\d{2})(\d{2})(\d{2,6}(\.\d{1,6})?)?([+-]\d{4})?", text.strip())
    if match is None:
        return None
    try:
        day = datetime.date(*(int(part) for part in match.groups()[:3])) + datetime.timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return f"{day:%Y%m%d}" if day.year >= 1000 else None


def _is_empty(ds: Dataset, tag: BaseTag) -> bool:
    """Without decoding the value: that may fail, or warn with the value in its text."""
    raw = ds.get_item(tag)
    if isinstance(raw, RawDataElement):
        return not raw.value or not raw.value.strip(b" \0")
    value = raw.value
    return value is None or (isinstance(value, str | bytes | list | tuple) and len(value) == 0) or str(value) == ""


def _vr(tag: BaseTag) -> str:
    """As the dictionary has it: a file may call a name a number."""
    try:
        return str(dictionary_VR(tag)).split(" ")[0]
    except KeyError:
        return "UN"


def _values(element: DataElement) -> list[Any]:
    value = element.value
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)


@cache
def _library() -> str:
    return f"dicom-anonymizer {importlib.metadata.version('dicom-anonymizer')}"


@cache
def _table() -> tuple[dict[tuple[int, int], Action], list[tuple[tuple[int, int, int, int], Action]]]:
    actions = initialize_actions(f"dicomfields_{EDITION}")
    single = {key: action for key, action in actions.items() if len(key) == 2}
    repeating = [(key, action) for key, action in actions.items() if len(key) == 4]
    return single, repeating


def _rule(tag: BaseTag) -> Action | None:
    single, repeating = _table()
    action = single.get((tag.group, tag.element))
    if action is not None:
        return action
    for (group, element, group_mask, element_mask), repeated in repeating:
        if tag.group & group_mask == group & group_mask and tag.element & element_mask == element & element_mask:
            return repeated
    return None


# What is kept, and how each value is proven to be what it should be.


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
            values = _values(ds[keyword]) if keyword in ds else []
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
