"""The benchmarks that are read as they come: what one row of each says, in our words.

OmniMedVQA          QA_information/{Open-access,Restricted-access}/*.json, images under Images/
VQA-RAD             "VQA_RAD Dataset Public.json", or trainset.json and testset.json
SLAKE               train.json, validate.json, test.json, images under imgs/
PathVQA             JSON only: its pickles could run code, so they are never opened
Med-R1              Splits/{question_type,modality}/{train,test}/*.json over the images of OmniMedVQA
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from medgr2.schemas.digest import digest_of
from medgr2.schemas.vocabulary import LETTERS, QuestionType, Split
from medgr2.tasks.intake.words import split_named, squashed

MAX_TEXT = 20_000
Question = dict[str, Any]


class LeftOutError(Exception):
    """Why a row's question is not taken."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class FreeQuestion:
    """A question as its authors ask it, without options. `closed` is what they call so, or a yes or no."""

    question: str
    answer: str
    closed: bool
    kind: str


@dataclass(frozen=True)
class Told:
    """What one row says of its image, and the question it asks or the reason why that is not taken."""

    images: tuple[str, ...] = ()
    """Where the image may lie, below the benchmark's folder; the first that exists is meant."""
    facts: Mapping[str, str] = field(default_factory=dict)
    split: Split | None = None
    identity: str = ""
    """Two rows of one identity are one."""
    question: Question | None = None
    reason: str = ""
    free: FreeQuestion | None = None
    """The same question for those who score it without options; of the part that is an exam only."""


Row = Mapping[str, Any]
Teller = Callable[[Row, PurePosixPath], Told]
"""From a row, and the path of its JSON file below the benchmark's folder."""


@dataclass(frozen=True)
class Benchmark:
    name: str
    files: tuple[str, ...]
    """Patterns of its JSON files below the folder."""
    keys: frozenset[str]
    """A row has these."""
    tell: Teller
    first_image: str = ""
    """What a first row's image looks like, where the keys are too common to tell the benchmark by."""


TYPES = {squashed(one): one for one in QuestionType}
RAD_TYPES = {
    "modality": QuestionType.MODALITY, "organ": QuestionType.ANATOMY, "pres": QuestionType.DISEASE,
    "abn": QuestionType.DISEASE, "pos": QuestionType.ATTRIBUTE, "size": QuestionType.ATTRIBUTE,
    "attrib": QuestionType.ATTRIBUTE, "color": QuestionType.ATTRIBUTE, "count": QuestionType.ATTRIBUTE,
}  # fmt: skip
SLAKE_TYPES = {
    "modality": QuestionType.MODALITY, "organ": QuestionType.ANATOMY, "abnormality": QuestionType.DISEASE,
    "position": QuestionType.ATTRIBUTE, "size": QuestionType.ATTRIBUTE, "shape": QuestionType.ATTRIBUTE,
    "color": QuestionType.ATTRIBUTE, "quantity": QuestionType.ATTRIBUTE,
}  # fmt: skip
RAD_ORGANS = {"chest": ("X-Ray", "chest"), "abd": ("CT", "abdomen"), "head": ("", "head")}
"""By the paper the chests are radiographs and the abdomens CT; the heads are CT or MRI."""


def _omnimedvqa(row: Row, file: PurePosixPath) -> Told:
    image, source = _text(row, "image_path"), _text(row, "dataset")
    told = _Telling(
        row, (image,), {"modality": _first(row, "modality_type", "modality"), "source": source or file.stem},
        Split.HELDOUT,  # all of it is an exam
    )  # fmt: skip
    kind = TYPES.get(squashed(_text(row, "question_type")))
    options = [_text(row, f"option_{letter}") for letter in LETTERS]
    identity = f"{source}/{_text(row, 'question_id')}" if row.get("question_id") else ""
    return told.asking(kind, "question", lambda: _choice(options, _need(row, "gt_answer")), identity=identity)


def _vqa_rad(row: Row, file: PurePosixPath) -> Told:
    name = _text(row, "image_name")
    modality, anatomy = RAD_ORGANS.get(_text(row, "image_organ").casefold(), ("", ""))
    facts = {"modality": modality, "anatomy": anatomy, "source": "VQA-RAD", "group_id": _text(row, "image_case_url")}
    test = _text(row, "phrase_type").startswith("test") or file.stem.casefold().startswith("test")
    places = _below(file, name, "VQA_RAD Image Folder", "images", "")
    told = _Telling(row, places, facts, Split.HELDOUT if test else Split.TRAIN)
    kind = RAD_TYPES.get(squashed(_text(row, "question_type").split(",")[0]))
    free = _free(row, _text(row, "question_type")) if test else None
    return told.asking(kind, "question", lambda: _closed(row), identity=_text(row, "qid"), free=free)


def _slake(row: Row, file: PurePosixPath) -> Told:
    facts = {"modality": _text(row, "modality"), "anatomy": _text(row, "location").casefold(), "source": "SLAKE"}
    split = split_named(file.stem)
    told = _Telling(row, _below(file, _text(row, "img_name"), "imgs", "images", ""), facts, split)
    kind = SLAKE_TYPES.get(squashed(_text(row, "content_type")))
    qid = _text(row, "qid")

    def answer() -> Question:
        if _text(row, "q_lang") not in ("", "en"):
            raise LeftOutError("not_english")
        return _closed(row)

    exam = split is Split.HELDOUT and _text(row, "q_lang") in ("", "en")
    free = _free(row, _text(row, "content_type")) if exam else None
    return told.asking(kind, "question", answer, identity=f"{file.stem}/{qid}" if qid else "", free=free)


def _pathvqa(row: Row, file: PurePosixPath) -> Told:
    image = _text(row, "image")
    split = split_named(re.split(r"[_\W]", PurePosixPath(image).name)[0]) or split_named(file.stem.split("_")[0])
    name = image if not image or PurePosixPath(image).suffix else f"{image}.jpg"
    subset = name.split("_")[0]
    places = tuple(f"{below}{name}" for below in (f"images/{subset}/", "images/", "")) if name else ()
    told = _Telling(row, places, {"source": "PathVQA"}, split)
    # PathVQA does not say what kind of question it asks, and pictures in textbooks are of every modality.
    kind = TYPES.get(squashed(_text(row, "question_type")))
    free = _free(row, _text(row, "question_type")) if split is Split.HELDOUT else None
    return told.asking(kind, "question", lambda: _closed(row), free=free)


def _med_r1(row: Row, file: PurePosixPath) -> Told:
    image, problem = _text(row, "image"), _text(row, "problem")
    parts = PurePosixPath(image).parts
    subject = re.sub(r"_(train|test)$", "", file.stem)
    facts = {"source": parts[1] if len(parts) > 2 and parts[0] == "Images" else "Med-R1"}
    if "modality" in file.parts and subject != "unknown":
        facts["modality"] = subject
    told = _Telling(row, (image,), facts, split_named(file.parent.name))
    kind = TYPES.get(squashed(subject)) if "question_type" in file.parts else None
    stem, options = _problem(problem)

    def answer() -> Question:
        solution = _need(row, "solution")
        found = re.search(r"<answer>(.*?)</answer>", solution, re.DOTALL)
        said = (found[1] if found else solution).strip()
        if len(said) == 1 and said in LETTERS[: len(options)]:
            said = options[LETTERS.index(said)]
        thought = re.search(r"<think>(.*?)</think>", solution, re.DOTALL)
        return {**_choice(options, said), "rationale": thought[1].strip() if thought else ""}

    return told.asking(kind, "problem", answer, text=stem, identity=digest_of([image, problem]))


class _Telling:
    def __init__(self, row: Row, images: Sequence[str], facts: Mapping[str, str], split: Split | None = None) -> None:
        self._row = row
        self._images = tuple(image for image in images if image)
        self._facts = {name: value for name, value in facts.items() if value}
        self._split = split

    def asking(
        self,
        kind: QuestionType | None,
        key: str,
        answer: Callable[[], Question],
        *,
        text: str = "",
        identity: str = "",
        free: FreeQuestion | None = None,
    ) -> Told:
        question, reason = None, ""
        try:
            asked = text or _need(self._row, key)
            answered = answer()
            if kind is None:
                raise LeftOutError("no_question_type")
            question = {"question_type": kind.value, "question": asked, "rationale": "", **answered}
        except LeftOutError as e:
            reason = e.reason
        return Told(self._images, self._facts, self._split, identity, question, reason, free)


def _choice(options: Sequence[str], answer: str) -> Question:
    """The letter of the one option that is the answer."""
    given = [option for option in options if option]
    if len(given) < 2:
        raise LeftOutError("no_options")
    same = [n for n, one in enumerate(given) if one == answer]
    same = same or [n for n, one in enumerate(given) if one.casefold() == answer.casefold()]
    if not same:
        raise LeftOutError("answer_not_an_option")
    if len(same) > 1:
        raise LeftOutError("answer_ambiguous")
    return {"options": given, "answer": LETTERS[same[0]]}


def _closed(row: Row) -> Question:
    """Yes or no. Other options nobody wrote down, and none are made up."""
    answer = _need(row, "answer")
    kind = _text(row, "answer_type").upper()
    if answer.casefold() in ("yes", "no") and kind != "OPEN":
        return _choice(["Yes", "No"], answer)
    raise LeftOutError("no_options" if kind == "CLOSED" else "open_ended")


def _free(row: Row, kind: str) -> FreeQuestion | None:
    question, answer = _text(row, "question"), _text(row, "answer")
    if not question or not answer:
        return None
    told = _text(row, "answer_type").upper()
    closed = told == "CLOSED" if told in ("OPEN", "CLOSED") else answer.casefold() in ("yes", "no")
    return FreeQuestion(question, answer, closed, kind.casefold())


def _problem(text: str) -> tuple[str, list[str]]:
    """'Which stage? A)Stage Ib, B)Stage 0' -> the question, and its options."""
    # ' A)' may also end a bracket: in the stem, '(vitamin A)', or in a later option.
    second = text.find(", B)")
    at = text.rfind(" A)", 0, second)
    if second < 0 or at < 0:
        return text, []
    stem, rest, options = text[:at].strip(), text[at + 3 :], []
    for letter in LETTERS[1:]:
        option, comma, after = rest.partition(f", {letter})")
        if not comma:
            break
        options.append(option.strip())
        rest = after
    return stem, [*options, rest.strip()]


def _below(file: PurePosixPath, name: str, *folders: str) -> tuple[str, ...]:
    return tuple((file.parent / folder / name).as_posix() for folder in folders) if name else ()


def _first(row: Row, *keys: str) -> str:
    return next((text for key in keys if (text := _text(row, key))), "")


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str | int | float) or len(str(value)) > MAX_TEXT:
        return ""
    return str(value).encode("utf-8", "replace").decode().strip()  # JSON can hold half a character


def _need(row: Row, key: str) -> str:
    if not (text := _text(row, key)):
        raise LeftOutError(f"missing:{key}")
    return text


def _benchmarks() -> Iterator[Benchmark]:
    yield Benchmark(
        "omnimedvqa", ("QA_information/*.json", "QA_information/*/*.json"),
        frozenset({"question_type", "question", "gt_answer", "image_path", "option_A"}), _omnimedvqa,
    )  # fmt: skip
    yield Benchmark(
        "vqa-rad", ("VQA_RAD*.json", "trainset.json", "testset.json"),
        frozenset({"image_name", "image_organ", "question", "answer"}), _vqa_rad,
    )  # fmt: skip
    yield Benchmark(
        "slake", tuple(f"{below}{part}.json" for below in ("", "Slake1.0/") for part in ("train", "valid*", "test")),
        frozenset({"img_name", "q_lang", "question", "answer"}), _slake,
    )  # fmt: skip
    yield Benchmark(
        "med-r1", tuple(f"{top}{by}/*/*.json" for top in ("Splits/", "") for by in ("question_type", "modality")),
        frozenset({"image", "problem", "solution"}), _med_r1,
    )  # fmt: skip
    parts = ("train", "val", "test")
    yield Benchmark(
        "pathvqa", tuple(f"{top}{part}{end}.json" for top in ("", "qas/*/") for part in parts for end in ("", "_qa")),
        frozenset({"image", "question", "answer"}), _pathvqa, first_image=r"(^|/)(train|val|test)_\d+",
    )  # fmt: skip


BENCHMARKS = {one.name: one for one in _benchmarks()}
