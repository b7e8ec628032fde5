"""DICOM headers, de-identified: PS3.15 Table E.1-1 by dicom-anonymizer's edition of it, on every level of nesting.

Imported only where a DICOM file is read. The table's functions act on one level and draw dates and UIDs at random;
here they are applied to each item of each sequence, and dates and UIDs go through the project's pseudonyms."""

from __future__ import annotations

import datetime
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

from medgr2.infra.pseudonyms import Pseudonyms

EDITION = "2026c"

BIRTH_DATE = 0x00100030

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
        if tag == BIRTH_DATE:
            # Moved together with the others it would still tell the age to a day.
            del ds[tag]
        elif vr in {"DA", "DT"}:
            moved = [shifted(str(one), days) for one in values_of(ds[tag])]
            if not moved or None in moved:
                del ds[tag]
            else:
                ds[tag] = DataElement(tag, vr, moved if len(moved) > 1 else moved[0])
        elif vr in {"TM", "PN"}:
            del ds[tag]
        elif vr == "UI":
            uids = [pseudonyms.uid(str(one)) for one in values_of(ds[tag]) if str(one)]
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


def values_of(element: DataElement) -> list[Any]:
    value = element.value
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)


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
