"""One training as a stage, as a loop starts it: python training_driver.py ROOT MODE METHOD SETTINGS

Prints the artifact; an error ends it with its own exit code and says what it is.
"""

from __future__ import annotations

import json
import sys

from medgr2.infra.opening import open_store
from medgr2.infra.settings import load_settings
from medgr2.schemas.cells import Recipe
from medgr2.schemas.errors import ExitCode, Medgr2Error
from medgr2.tasks.stage import run_stage
from medgr2.tasks.training_cell import training_request


def main() -> int:
    method, asked = sys.argv[1:]
    settings = load_settings()
    recipe = Recipe(stage="train-test", code="1", parameters={"method": method, "settings": json.loads(asked)})
    cell = recipe.cell()
    try:
        result = run_stage(
            training_request(recipe, "training_workers:Trains", "night"),
            [cell],
            settings=settings,
            store=open_store(settings.storage),
        )
    except Medgr2Error as e:
        sys.stderr.write(f"{e}\n")
        return int(e.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    outcome = result.outcomes[cell.key]
    sys.stdout.write(json.dumps({"value": outcome.value, "reasons": outcome.reasons, "detail": outcome.detail}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
