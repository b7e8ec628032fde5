"""A small hospital's folder for the tests of ingest and questions."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from medgr2.infra.settings import Settings, load_settings

COLUMNS = ["file", "modality", "patient_id", "report", "source", "split", "diagnosis"]
KEY = "0123456789abcdef0123456789abcdef"


def settings(tmp_path: Path, **more: str) -> Settings:
    return load_settings(
        {
            "MEDGR2_STORAGE__ROOT": str(tmp_path / "root"),
            "MEDGR2_COMPUTE__MODE": "inline",
            "MEDGR2_COMPUTE__FAILURE_LIMIT": "0.9",
            "MEDGR2_PRIVACY__PATIENT_KEY": KEY,
            **more,
        }
    )


def picture(number: int, size: tuple[int, int] = (48, 48), kind: str = "PNG") -> bytes:
    """A picture that looks like none of another number: blobs of grey, and fine grain."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 6), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.integers(-20, 20, (size[1], size[0]))
    out = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(coarse, np.int16) + grain, 0, 255).astype(np.uint8)).convert("RGB").save(
        out, kind
    )
    return out.getvalue()


def hospital(folder: Path, rows: list[dict[str, str]], files: dict[str, bytes], columns: list[str] = COLUMNS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with (folder / "labels.csv").open("w", newline="") as f:
        writer = csv.DictWriter(f, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def label(file: str, **more: str) -> dict[str, str]:
    return {"file": file, "modality": "CT", "patient_id": f"p-{file}", "split": "train", **more}
