"""What a DICOM header may say of its picture, in our words. Only known terms pass: free text there can be anything."""

from __future__ import annotations

from medgr2.schemas.vocabulary import Modality


def words(text: str) -> frozenset[str]:
    return frozenset(text.split("|"))


_STORAGE = "1.2.840.10008.5.1.4.1.1"

MODALITIES: dict[str, Modality] = {
    "CR": Modality.XRAY,
    "DX": Modality.XRAY,
    "DR": Modality.XRAY,
    "MG": Modality.XRAY,
    "RF": Modality.XRAY,
    "XA": Modality.XRAY,
    "PX": Modality.XRAY,
    "IO": Modality.XRAY,
    "CT": Modality.CT,
    "MR": Modality.MRI,
    "US": Modality.ULTRASOUND,
    "IVUS": Modality.ULTRASOUND,
    "OP": Modality.FUNDUS,
    "OPT": Modality.OCT,
    "OCT": Modality.OCT,
    "IVOCT": Modality.OCT,
    "SM": Modality.MICROSCOPY,
    "GM": Modality.MICROSCOPY,
    "DMS": Modality.DERMOSCOPY,
}
"""By the code of (0008,0060)."""

MODALITY_OF_CLASS: dict[str, Modality] = {
    f"{_STORAGE}.{number}": modality
    for modality, numbers in {
        Modality.XRAY: "1 1.1 1.1.1 1.2 1.2.1 1.3 1.3.1 12.1 12.1.1 12.2 12.2.1 12.3 13.1.1 13.1.2 13.1.3 13.1.4 "
        "13.1.5",
        Modality.CT: "2 2.1 2.2",
        Modality.MRI: "4 4.1 4.3 4.4",
        Modality.ULTRASOUND: "3 3.1 6 6.1 6.2",
        Modality.FUNDUS: "77.1.5.1 77.1.5.2 77.1.5.5 77.1.5.6",
        Modality.OCT: "14.1 14.2 77.1.5.4 77.1.5.7",
        Modality.MICROSCOPY: "77.1.2 77.1.2.1 77.1.3 77.1.6 77.1.8 77.1.9",
        Modality.DERMOSCOPY: "77.1.7",
    }.items()
    for number in numbers.split()
}
"""By the SOP class: for files without a modality, and for ophthalmic and dermatological ones, where it tells more."""

DECISIVE_CLASSES = (f"{_STORAGE}.77.1.5.4", f"{_STORAGE}.77.1.5.7", f"{_STORAGE}.77.1.7")

NOT_PICTURES = (
    f"{_STORAGE}.9.",  # waveforms
    f"{_STORAGE}.11.",  # presentation states
    f"{_STORAGE}.30",  # parametric maps
    f"{_STORAGE}.66",  # raw data, registrations, segmentations, surfaces
    f"{_STORAGE}.67",  # real world value mapping
    f"{_STORAGE}.68.",  # surface scans, tractography
    f"{_STORAGE}.77.1.5.8",  # maps of an eye's thickness
    f"{_STORAGE}.78.",  # lens and refraction measurements
    f"{_STORAGE}.79.",
    f"{_STORAGE}.80.",
    f"{_STORAGE}.81.",
    f"{_STORAGE}.82.",
    f"{_STORAGE}.88.",  # structured reports
    f"{_STORAGE}.104.",  # encapsulated PDF, CDA, models
    f"{_STORAGE}.481.",  # radiotherapy
    f"{_STORAGE}.200.",
    f"{_STORAGE}.201.",
    "1.2.840.10008.1.3.10",  # a DICOMDIR
    "1.2.840.10008.5.1.4.34.",  # radiotherapy, worklists
    "1.2.840.10008.5.1.4.38.",  # hanging protocols and other notes
    "1.2.840.10008.5.1.4.39.",
    "1.2.840.10008.5.1.4.43.",
    "1.2.840.10008.5.1.4.44.",
    "1.2.840.10008.5.1.4.45.",
)
"""Prefixes of SOP classes that hold no picture one could ask a question about."""

PICTURES_AFTER_ALL = (f"{_STORAGE}.481.1",)
"""Exceptions: a radiotherapy portal image is an X-ray picture."""

NOT_PICTURE_MODALITIES = words(
    "SEG|SR|PR|KO|REG|RWV|PLAN|DOC|RTDOSE|RTPLAN|RTSTRUCT|RTRECORD|FID|ECG|EEG|HD|RESP|SMR|AU|SRF|M3D"
)

SECONDARY_CAPTURE = f"{_STORAGE}.7"
VISIBLE_LIGHT = f"{_STORAGE}.77.1."
WHOLE_SLIDE = f"{_STORAGE}.77.1.6"

BODY_PARTS: dict[str, str] = {
    name.replace(" ", ""): name
    for name in words(
        "abdomen|adrenal gland|ankle|aorta|arm|axilla|back|bile duct|bladder|brain|breast|bronchus|calcaneus|calf|"
        "carotid artery|cerebellum|cervical spine|cervix|cheek|chest|clavicle|coccyx|colon|cornea|duodenum|ear|elbow|"
        "esophagus|extremity|eye|eyelid|face|femur|finger|foot|forearm|gallbladder|hand|head|head and neck|heart|hip|"
        "humerus|ileum|ilium|intracranial|jaw|jejunum|kidney|knee|larynx|leg|liver|lower extremity|lower leg|"
        "lumbar spine|lung|mandible|maxilla|mediastinum|mouth|neck|nose|orbit|ovary|pancreas|parotid gland|patella|"
        "pelvis|pharynx|placenta|prostate|rectum|retina|rib|sacrum|scalp|scapula|scrotum|shoulder|skin|skull|"
        "small bowel|spine|spleen|sternum|stomach|teeth|testis|thigh|thoracic spine|thorax|thumb|thymus|thyroid|toe|"
        "tongue|trachea|upper arm|upper extremity|ureter|urethra|uterus|vagina|whole body|wrist"
    )
}
BODY_PARTS |= {
    "ABDOMENPELVIS": "abdomen and pelvis",
    "ADRENAL": "adrenal gland",
    "CAROTID": "carotid artery",
    "CHESTABDOMEN": "chest and abdomen",
    "CHESTABDPELVIS": "chest, abdomen and pelvis",
    "CSPINE": "cervical spine",
    "CTSPINE": "cervicothoracic spine",
    "GALLBLADDER": "gallbladder",
    "HEADNECK": "head and neck",
    "JAWREGION": "jaw",
    "LSPINE": "lumbar spine",
    "LSSPINE": "lumbosacral spine",
    "PAROTID": "parotid gland",
    "SSPINE": "sacrum",
    "TIBIAFIBULA": "lower leg",
    "TLSPINE": "thoracolumbar spine",
    "TSPINE": "thoracic spine",
    "UTERUSANDFALLOPIANTUBES": "uterus",
    "WHOLEBODY": "whole body",
}
BODY_PARTS = {key.upper(): word for key, word in BODY_PARTS.items()}


def body_part(text: str) -> str | None:
    """'CSPINE', 'Cervical spine' -> 'cervical spine'; a word that is not on the list -> None."""
    return BODY_PARTS.get("".join(c for c in text.upper() if c.isalpha()))
