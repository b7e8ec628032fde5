"""Identity: what a file's own labels say, and which of several equal pictures is the one that comes in."""

from __future__ import annotations

from collections import Counter, defaultdict

from medgr2.schemas.vocabulary import Split
from medgr2.tasks.intake.case import CONTRADICTING, Case, contradict


def judge_files(case: Case) -> None:
    """Labels and header of each file on their own. What the labels leave open, the header may tell."""
    for file, problem in enumerate(case.problems):
        labelled, modality = case.told["modality"][file], case.header["modality"][file]
        case.told["modality"][file] = labelled or modality
        case.told["anatomy"][file] = case.told["anatomy"][file] or case.header["anatomy"][file]
        if not case.is_open(file):
            continue
        if problem:
            case.refuse(file, problem)
        elif labelled and modality and labelled != modality:
            case.refuse(file, "modality_contradicts_header")
        elif not (labelled or modality) and case.told["split"][file] != Split.HELDOUT:
            # A picture that is only ever examined on is asked about in its authors' words, whatever made it.
            case.refuse(file, "no_modality" if case.known[file] else "no_label")
        if not case.is_open(file):
            case.unfit.add(file)


def choose_owners(case: Case) -> None:
    """Of equal pictures the first file's stays; files are in a fixed order."""
    own: Counter[int] = Counter()
    copies: dict[int, list[str]] = defaultdict(list)
    for picture, (file, image) in enumerate(zip(case.file_of, case.image_of, strict=True)):
        if not case.is_open(file):
            continue
        first = case.owner.setdefault(image, picture)
        if first == picture:
            own[file] += 1
        elif case.file_of[first] != file:
            copies[file].append(image)
            case.copied[image].update(case.keys(file))
    for file, images in copies.items():
        told_otherwise = [i for i in images if contradict(case.facts_of_file(file), case.facts(i))]
        for image in told_otherwise:
            case.hold_back(image, CONTRADICTING, image)
        if not own[file]:
            case.refuse(file, CONTRADICTING if told_otherwise else "duplicate")


def meet_held(case: Case) -> None:
    """Pictures that are in already: known again, told otherwise by now, or brought by another file."""
    here = set(case.contents)
    refused: dict[int, str] = {}
    for image in [image for image in case.owner if image in case.held_at]:
        file, origin = case.file(image), case.held_value(image, "origin")
        wanted, split = case.told["split"][file], case.held_value(image, "split")
        if wanted and split not in (wanted, Split.QUARANTINED):
            refused[file] = "split_was_otherwise"
            del case.owner[image]
        elif origin not in (None, case.contents[file]):
            # Another file brought it. If that one is gone, this one stands in for it as long as they agree.
            otherwise = contradict(case.facts_of_file(file), case.held_facts(image))
            if otherwise:
                case.hold_back(image, CONTRADICTING, image)
            if otherwise or origin in here or case.held_value(image, "told") is not None:
                refused[file] = CONTRADICTING if otherwise else "duplicate"
                case.copied[image].update(case.keys(file))
                del case.owner[image]
        elif _contradicted(case, image):
            case.hold_back(image, CONTRADICTING, image)
    kept = {case.file(image) for image in case.owner}
    for file, reason in refused.items():
        if file not in kept:
            case.refuse(file, reason)


def _contradicted(case: Case, image: str) -> bool:
    """Another source has the same picture and calls it otherwise: that holds until one of the two is corrected."""
    facts = case.facts_of_file(case.file(image))
    return any(contradict(facts, said) for said in case.elsewhere.get(image, ()) if said)
