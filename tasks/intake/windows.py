"""A source read window by window: each is a run of the reading stage over what the journal does not hold yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from medgr2.infra.journal import Journal
from medgr2.infra.sources import KEPT, SourceFile, SourceReader, locate
from medgr2.infra.workspace import Workspace
from medgr2.schemas.cells import Cell, Recipe
from medgr2.schemas.digest import sha256_hex
from medgr2.schemas.errors import StorageError
from medgr2.schemas.intake import ReadingRules
from medgr2.schemas.vocabulary import Verdict
from medgr2.tasks.intake.candidates import Read
from medgr2.tasks.intake.read import WORKER
from medgr2.tasks.intake.survey import Survey, suffix_of
from medgr2.tasks.stage import StageRequest, run_stage
from medgr2.tasks.stage_record import record_outcomes
from medgr2.tasks.stage_request import StageResult

BATCH = 512
"""A batch is flushed to the disk together."""
SUFFIXES = frozenset(
    {".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".nii", ".gz", ".jp2", ".pdf", ".zip"}
)
"""Only these reach the reader: any other end of a name could be a piece of it."""


class Windows:
    def __init__(self, workspace: Workspace, survey: Survey, recipe: Recipe, rules: ReadingRules, run: str) -> None:
        self._workspace = workspace
        self._survey = survey
        self._rules = rules
        # The share of failures is judged over the whole source, by the caller.
        # Each file has a deadline of its own, kept by the process that reads it.
        self.request = StageRequest(
            recipe=recipe, worker=WORKER, run=run, batch_size=BATCH, failure_limit=1.0,
            deadline_seconds=BATCH * (rules.seconds + 5),
        )  # fmt: skip
        self._journal = Journal(workspace.store, recipe.stage)
        self._reader = SourceReader(workspace.settings.storage)
        self._hashed: Callable[[str, str], str] = survey.hashed
        self.new = self.reused = self.retried = 0

    def __iter__(self) -> Iterator[list[Read]]:
        for files in self._survey.windows():
            yield self._read(files)

    def _read(self, files: Sequence[SourceFile]) -> list[Read]:
        looked = [self._look(file) for file in files]
        result = run_stage(
            self.request,
            [cell for cell in looked if isinstance(cell, Cell)],
            settings=self._workspace.settings,
            store=self._workspace.store,
            journal=self._journal,
            on_plan=lambda _plan: None,
        )
        record_outcomes(self._workspace.lake, self.request, result)
        return self._tell(files, looked, result)

    def _look(self, file: SourceFile) -> Cell | Read:
        """The cell of a file, by what it holds; or why there is none."""
        if file.size < 0:
            return Read(file, "", None, "unreadable")
        if file.size > self._rules.max_bytes:
            return Read(file, "", None, "too_many_bytes", Verdict.REJECTED.value)
        suffix = suffix_of(file.name)
        inputs = {"suffix": suffix} if suffix in SUFFIXES else {}
        locator = locate(self._survey.source, file.name)
        if self._survey.source.address.startswith("s3://"):
            # Not fetched only to be named: a bucket's entity tag changes with the bytes.
            tag = self._hashed("tag", f"{file.size}:{file.stamp}")
            return self.request.recipe.cell(inputs={**inputs, "tag": tag}, locator=locator)
        content = self._survey.content(file)
        if content is None:
            try:
                content = sha256_hex(self._reader.read(locator))
            except OSError as e:
                self._still_there()
                return Read(file, "", None, "unreadable", detail=type(e).__name__)
        return self.request.recipe.cell(image=content, inputs=inputs, locator=locator)

    def _still_there(self) -> None:
        address = self._survey.source.address
        if not Path(address).is_dir():
            raise StorageError(
                "the source has gone", where=address, kept=f"{KEPT}; what was read of this one, in the journal",
                next_command="bring it back and run the same command again",
            )  # fmt: skip

    def _tell(self, files: Sequence[SourceFile], looked: Sequence[Cell | Read], result: StageResult) -> list[Read]:
        plan = result.report.plan
        lone = sum(isinstance(one, Read) for one in looked)
        self.new += plan.new + lone
        self.retried += plan.retried
        # Several files may hold the same bytes: read once, they count once each.
        self.reused += len(files) - plan.new - plan.retried - lone
        return [
            one if isinstance(one, Read) else Read(file, one.image, result.outcomes[one.key])
            for file, one in zip(files, looked, strict=True)
        ]
