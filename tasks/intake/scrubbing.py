"""Free-text reports: scrubbed, kept or dropped on their way in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medgr2.schemas.errors import MissingExtraError
from medgr2.schemas.intake import Reports

if TYPE_CHECKING:
    from medgr2.infra.free_text import Scrubber


class ReportScrub:
    """The recogniser is loaded with the first report: most sources have none."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        self._scrubber: Scrubber | None = None
        self.met = 0
        self.found: Counter[str] = Counter()

    def begin(self, any_report: bool) -> None:
        """Counts from nothing. What is missing is said here, before the first row is written."""
        self.met = 0
        self.found.clear()
        if any_report and self._reports == "scrub":
            self._open()

    def __call__(self, report: str, known: Sequence[str] = ()) -> str | None:
        """`known` is how the labels call this patient: looked for in the report, and forgotten."""
        self.met += 1
        if self._reports == "drop":
            return None
        if self._reports == "keep":
            return report
        clean = self._open().scrub(report, known)
        self.found.update({f"report:{kind}": count for kind, count in clean.found.items()})
        return clean.text

    def _open(self) -> Scrubber:
        if self._scrubber is None:
            from medgr2.infra.free_text import Scrubber

            try:
                self._scrubber = Scrubber()
            except MissingExtraError as e:
                raise MissingExtraError(
                    f"there are reports, and nothing to scrub them with: {e.what}",
                    kept="what was read, in the journal; no row was written",
                    next_command=f"{e.next_command}  or choose --reports drop, or --reports keep if no name is in them",
                ) from None
        return self._scrubber
