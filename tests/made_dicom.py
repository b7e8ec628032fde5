"""Small DICOM files, made in the test."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian

MR = "1.2.840.10008.5.1.4.1.1.4"


def data_set(pixels: Any = None, **values: Any) -> Dataset:
    """A grey MR picture; `values` set or, when None, leave out attributes."""
    pixels = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) if pixels is None else np.asarray(pixels)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = MR
    ds.SOPInstanceUID = "1.2.3.4.5"
    ds.StudyInstanceUID = "1.2.3.4"
    ds.SeriesInstanceUID = "1.2.3.4.1"
    ds.Modality = "MR"
    ds.PatientName = "Beispiel^Erika"
    ds.PatientID = "MRN-4711"
    ds.Rows, ds.Columns = pixels.shape[-2:] if pixels.shape[-1] != 3 else pixels.shape[-3:-1]
    ds.SamplesPerPixel = 3 if pixels.shape[-1] == 3 else 1
    ds.PhotometricInterpretation = "RGB" if pixels.shape[-1] == 3 else "MONOCHROME2"
    if pixels.shape[-1] == 3:
        ds.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes()
    for keyword, value in values.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def as_bytes(ds: Dataset, syntax: str = ExplicitVRLittleEndian, frames: list[bytes] | None = None) -> bytes:
    """`frames` are compressed already."""
    uid = UID(syntax)
    ds.file_meta.TransferSyntaxUID = uid
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", MR)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "1.2.3")
    if frames is not None:
        ds.PixelData = encapsulate(frames)
        ds["PixelData"].is_undefined_length = True
        ds["PixelData"].VR = "OB"
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian)
    return out.getvalue()
