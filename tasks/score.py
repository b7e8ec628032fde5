"""Score: what the frozen scorer, the trained reward and another family's verifier make of items past their gates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from medgr2.infra.images import ImageStore
from medgr2.infra.journal import Journal
from medgr2.infra.lake import Lake
from medgr2.infra.opening import open_store
from medgr2.infra.settings import Settings
from medgr2.infra.workspace import Workspace
from medgr2.models.answer_forms import of_given
from medgr2.models.prompts import load_prompt
from medgr2.models.signals import LOOKS, SIGNALS, Blind, Exam
from medgr2.schemas.cells import Cell, Outcome, Recipe
from medgr2.schemas.errors import NightStoppedError
from medgr2.schemas.items import Item
from medgr2.schemas.parameters import ScoreParameters
from medgr2.schemas.reports import StageReport
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks import score_reward, score_verifier
from medgr2.tasks.stage import Announce, StageRequest, run_and_record
from medgr2.tasks.strangers import Strangers

BATCH = 32
COLUMNS = (*SIGNALS, *score_reward.SIGNALS, *score_verifier.SIGNALS)
EXAM_FIELDS = ("question", "options", "answer", "rationale")


def recipe(look: str, scorer: str, parameters: ScoreParameters, *, told: bool = False) -> Recipe:
    """One stage a look: adding one, or changing its code, buys nothing of the others again. `told`: the scorer was not
    taught how to reply and has to be told, and needs more room for it."""
    how, asked = LOOKS[look], of_given(told=told)
    settings = {**how.parameters, "dtype": "float64"}
    if told:
        settings["max_new_tokens"] = asked.longest
    if look == "answers":
        settings["answers"] = parameters.answers
    prompt = load_prompt(asked.prompt)
    return Recipe(stage=f"score-{look}", code=how.code, model=scorer, prompt=prompt, parameters=settings)


class ScoreWorker:
    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        from medgr2.models.engines.transformers import load_engine
        from medgr2.models.model_ref import materialise

        self._recipe = recipe
        self._look = LOOKS[recipe.stage.removeprefix("score-")]
        self._images = ImageStore(open_store(settings.storage), settings.storage.cache_folder)
        self._engine = load_engine(materialise(recipe.model, settings).folder, dtype=str(recipe.parameters["dtype"]))

    def __call__(self, cells: Sequence[Cell]) -> Iterable[Outcome]:
        exams = [
            Exam(
                image_path=self._images.path(cell.image),
                question=str(cell.inputs["question"]),
                options=tuple(cell.inputs["options"]),
                answer=str(cell.inputs["answer"]),
                rationale=str(cell.inputs["rationale"]),
                seed=cell.seed,
                strangers=tuple(self._images.path(other) for other in cell.inputs.get("strangers", ())),
            )
            for cell in cells
        ]
        found = self._look.measure(self._engine, self._recipe.prompt, exams, self._recipe.parameters)
        for cell, record in zip(cells, found, strict=True):
            yield Outcome.accepted(cell, record)


@dataclass(frozen=True)
class Measured:
    """The signals of each item and the cells they came from. A signal that failed is missing."""

    scorer: str
    signals: Mapping[str, Mapping[str, float]]
    cells: Mapping[str, tuple[str, ...]]
    reports: tuple[StageReport, ...]
    reward: str | None = None
    """The trained reward that looked as well."""
    verifier: str | None = None
    """The model of another family that was asked as well."""
    unverified: str = ""
    """Why it was not asked about all of them."""

    @property
    def asked(self) -> tuple[str, ...]:
        """The signals that every item was to get."""
        trained = score_reward.SIGNALS if self.reward is not None else ()
        verified = score_verifier.SIGNALS if self.verifier is not None else ()
        return (*SIGNALS, *trained, *verified)


def asked_for(
    look: str,
    exams: Iterable[tuple[str, Item]],
    parameters: ScoreParameters,
    *,
    scorer: str,
    run: str,
    lake: Lake,
    told: bool = False,
) -> tuple[StageRequest, list[Cell]]:
    """The cells of one look at items, each with its id."""
    how = recipe(look, scorer, parameters, told=told)
    strangers = Strangers(lake) if look == Blind.name else None
    cells = [
        how.cell(
            image=item.image_id,
            parents=(item_id,),
            inputs=item.model_dump(mode="json", include={*EXAM_FIELDS})
            | ({"strangers": strangers.of(item, int(str(how.parameters["strangers"])))} if strangers else {}),
        )
        for item_id, item in exams
    ]
    return StageRequest(recipe=how, worker="medgr2.tasks.score:ScoreWorker", batch_size=BATCH, run=run), cells


def looks(
    exams: Sequence[tuple[str, Item]],
    parameters: ScoreParameters,
    *,
    scorer: str,
    reward: str | None,
    run: str,
    workspace: Workspace,
    verifier: str | None = None,
) -> Iterator[tuple[tuple[str, ...], StageRequest, list[Cell]]]:
    """What is measured by each stage, and its cells, one for each exam."""
    lake, told = workspace.lake, workspace.settings.models.told
    for name, look in LOOKS.items():
        yield look.signals, *asked_for(name, exams, parameters, scorer=scorer, run=run, lake=lake, told=told)
    if reward is not None:
        yield score_reward.SIGNALS, *score_reward.asked_for(reward, exams, run=run, lake=lake)
    if verifier is not None:
        in_flight = workspace.settings.verifier.in_flight
        yield score_verifier.SIGNALS, *score_verifier.asked_for(verifier, exams, run=run, in_flight=in_flight)


def measure(
    workspace: Workspace,
    items: Iterable[Item],
    parameters: ScoreParameters,
    *,
    scorer: str,
    run: str,
    announce: Announce,
    reward: str | None = None,
    verifier: str | None = None,
) -> Measured:
    """Every look at the items, which have passed their gates."""
    exams = sorted({item.item_id: item for item in items}.items())
    values: dict[str, dict[str, float]] = {item_id: {} for item_id, _ in exams}
    origins: dict[str, list[str]] = {item_id: [] for item_id, _ in exams}
    reports, unverified = [], ""
    asked = looks(exams, parameters, scorer=scorer, reward=reward, run=run, workspace=workspace, verifier=verifier)
    for signals, request, cells in asked:
        outcomes: Mapping[str, Outcome]
        try:
            result = run_and_record(request, cells, workspace, announce)
            outcomes = result.outcomes
            reports.append(result.report)
        except NightStoppedError as stopped:
            if request.recipe.stage != score_verifier.STAGE:
                raise
            # Somebody else's server is away: what it was not asked about is not published, and all else goes on.
            unverified = stopped.what
            outcomes = Journal(workspace.store, score_verifier.STAGE).outcomes([cell.key for cell in cells])
        for (item_id, _), cell in zip(exams, cells, strict=True):
            outcome = outcomes.get(cell.key)
            if outcome is not None and outcome.verdict is Verdict.ACCEPTED and outcome.value is not None:
                values[item_id].update({signal: float(outcome.value[signal]) for signal in signals})
                origins[item_id].append(cell.key)
    return Measured(
        scorer, values, {k: tuple(v) for k, v in origins.items()}, tuple(reports), reward, verifier, unverified
    )
