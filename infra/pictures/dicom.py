"""A DICOM file: what it shows, whose it is, and a header without the patient."""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from typing import TYPE_CHECKING, Any

from medgr2.infra.pictures.dicom_terms import (
    DECISIVE_CLASSES,
    MODALITIES,
    MODALITY_OF_CLASS,
    NOT_PICTURE_MODALITIES,
    NOT_PICTURES,
    PICTURES_AFTER_ALL,
    SECONDARY_CAPTURE,
    VISIBLE_LIGHT,
    WHOLE_SLIDE,
    body_part,
    words,
)
from medgr2.infra.pictures.reading import BrokenError, Contents, RefusedError, UnreadableError
from medgr2.infra.pseudonyms import Pseudonyms
from medgr2.schemas.errors import MissingExtraError
from medgr2.schemas.intake import ReadingRules
from medgr2.schemas.vocabulary import Modality

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

NO_PATIENTS = words(
    "anonymous|anonymized|anonymised|anonym|anon|deidentified|unknown|none|null|na|patient|noname|removed|test"
)
"""Ids that stand for nobody; their files are grouped by study."""


def read_dicom(data: bytes, rules: ReadingRules, pseudonyms: Pseudonyms) -> Contents:
    """Raises RefusedError or BrokenError; of a library's own exception only the type is told, for they quote values."""
    _quiet()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(data, rules, pseudonyms)
    except (UnreadableError, MissingExtraError, MemoryError):
        raise
    except Exception as e:
        failure = type(e).__name__
    # Outside of the handler, so that the new error does not hold on to the old one.
    raise BrokenError("undecodable", failure)


def _read(data: bytes, rules: ReadingRules, pseudonyms: Pseudonyms) -> Contents:
    try:
        from medgr2.infra.pictures.deidentify import deidentify
        from medgr2.infra.pictures.dicom_header import age_band, kept_header
        from medgr2.infra.pictures.dicom_pixels import frames_of
    except ImportError:
        raise MissingExtraError(
            "DICOM files need libraries that are not installed", next_command="pip install 'medgr2[dicom]'"
        ) from None
    ds = _parse(data, rules)
    _refuse_what_is_no_picture(ds)
    contents = Contents(frames=frames_of(ds, rules))
    contents.modality = _modality(ds)
    contents.anatomy = _anatomy(ds)
    contents.number = _number(ds)
    contents.patient = _patient(ds, contents.number)
    contents.study = _text(ds, "StudyInstanceUID")
    contents.risky = _is_risky(ds)
    age = age_band(_text(ds, "PatientAge"))
    sex = _text(ds, "PatientSex")
    contents.found = deidentify(ds, pseudonyms, contents.number or contents.study)
    ds.PatientSex = sex
    contents.header = kept_header(ds)
    if age is not None:
        contents.header["PatientAge"] = age
    return contents


def _quiet() -> None:
    """Their messages quote the header."""
    log = logging.getLogger("pydicom")
    log.setLevel(logging.CRITICAL + 1)
    log.propagate = False


def _parse(data: bytes, rules: ReadingRules) -> Dataset:
    import pydicom
    from pydicom import config
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID

    config.settings.reading_validation_mode = config.IGNORE
    if data[128:132] != b"DICM":
        raise BrokenError("undecodable", "no DICOM prefix")
    stream = io.BytesIO(data)
    stream.seek(132)
    meta = FileMetaDataset(
        read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _n: tag.group != 2)
    )
    if str(meta.get("TransferSyntaxUID", "")) != DEFLATED:
        stream.seek(0)
        return pydicom.dcmread(stream)
    # pydicom would inflate without a limit.
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(data[stream.tell() :], rules.max_bytes + 1)
    if len(body) > rules.max_bytes:
        raise RefusedError("too_large", "its deflated data set grows beyond the limit of bytes")
    if not inflater.eof:
        raise BrokenError("truncated", "its deflated data set ends early")
    meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE_ENDIAN)
    inside = read_dataset(io.BytesIO(body), is_implicit_VR=False, is_little_endian=True)
    return FileDataset(io.BytesIO(), inside, file_meta=meta, is_implicit_VR=False, is_little_endian=True)


def _refuse_what_is_no_picture(ds: Dataset) -> None:
    for kind in (_text(ds, "SOPClassUID"), _text(ds.file_meta, "MediaStorageSOPClassUID")):
        if kind.startswith(NOT_PICTURES) and kind not in PICTURES_AFTER_ALL:
            raise RefusedError("not_a_picture", _name_of_uid(kind))
    code = _text(ds, "Modality")
    if code in NOT_PICTURE_MODALITIES:
        raise RefusedError("not_a_picture", f"modality {code}")
    if "DirectoryRecordSequence" in ds:
        raise RefusedError("not_a_picture", "a DICOMDIR")
    if _text(ds, "SOPClassUID") == WHOLE_SLIDE and {"LABEL", "OVERVIEW"} & set(_words(ds, "ImageType")):
        # Photographs of the glass with its label: a name, a number, a barcode.
        raise RefusedError("not_a_picture", "the label of a slide")
    if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:
        raise RefusedError("not_a_picture", "measured values without a display")
    if "PixelData" not in ds:
        if "Rows" in ds or "SOPClassUID" not in ds:
            # The pixels come last in a file: where a picture is announced and none comes, the end is missing.
            raise BrokenError("truncated", "the file ends before its pixels")
        raise RefusedError("no_pixels", _name_of_uid(_text(ds, "SOPClassUID")))


def _name_of_uid(uid: str) -> str:
    from pydicom.uid import UID

    name = UID(uid).name
    return name if name != uid else ""


def _modality(ds: Dataset) -> str | None:
    kind, code = _text(ds, "SOPClassUID"), _text(ds, "Modality").upper()
    found: Modality | None
    if kind in DECISIVE_CLASSES:
        found = MODALITY_OF_CLASS[kind]
    elif code:
        found = MODALITIES.get(code)
    else:
        found = MODALITY_OF_CLASS.get(kind)
    if found is Modality.FUNDUS:
        # An ophthalmic photograph may also be of the front of the eye, if its device says so.
        devices = [_text(item, "CodeMeaning").lower() for item in ds.get("AcquisitionDeviceTypeCodeSequence") or ()]
        if devices and not any("fundus" in device or "scanning laser" in device for device in devices):
            found = None
    return found.value if found is not None else None


def _anatomy(ds: Dataset) -> str | None:
    known = body_part(_text(ds, "BodyPartExamined"))
    if known is not None:
        return known
    for shared in (ds, *_items(ds, "SharedFunctionalGroupsSequence")):
        for place in (shared, *_items(shared, "FrameAnatomySequence")):
            for region in _items(place, "AnatomicRegionSequence"):
                known = body_part(_text(region, "CodeMeaning"))
                if known is not None:
                    return known
    return None


def _number(ds: Dataset) -> str:
    number = _text(ds, "PatientID")
    bare = "".join(c for c in number.lower() if c.isalnum())
    return "" if not bare or bare in NO_PATIENTS else number


def _patient(ds: Dataset, number: str) -> str:
    issuer = _text(ds, "IssuerOfPatientID")
    return f"{issuer}|{number}" if issuer and number else number


def _is_risky(ds: Dataset) -> bool:
    kind, code = _text(ds, "SOPClassUID"), _text(ds, "Modality").upper()
    if code in {"", "US", "IVUS", "ES", "XC", "OT", "DOC", "DMS", "GM", "OP", "BI", "OSS"}:
        return True
    if code not in MODALITIES or (kind.startswith((SECONDARY_CAPTURE, VISIBLE_LIGHT)) and kind != WHOLE_SLIDE):
        return True
    if _text(ds, "ConversionType") in {"DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"}:
        return True
    said = _text(ds, "BurnedInAnnotation").upper()
    if said == "YES":
        return True
    derived = any(word in {"SECONDARY", "SCREEN SAVE", "SCREENSHOT", "REPORT"} for word in _words(ds, "ImageType"))
    return derived and said != "NO"


def _items(ds: Dataset, keyword: str) -> list[Any]:
    return list(ds.get(keyword) or ())


def _words(ds: Dataset, keyword: str) -> list[str]:
    value = ds.get(keyword)
    if value is None:
        return []
    return [value.upper()] if isinstance(value, str) else [str(word).upper() for word in value]


def _text(ds: Dataset, keyword: str) -> str:
    value = ds.get(keyword)
    return "" if value is None else str(value).strip().strip("\0").strip()
