"""The command line. Commands are loaded when they are called: `medgr2 --help` imports none of them."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from medgr2.schemas.errors import ExitCode, Medgr2Error, UsageError

COMMANDS: dict[str, str] = {
    "ingest": "Take images (and their labels and questions) in.",
    "refresh": "One night: ingest new, generate, score, select, publish.",
    "loop": "The closed loop: refresh, train, evaluate, promote, regenerate.",
    "presets": "Recipes of training by name, for the loop.",
    "ablate": "What each part is worth, on worlds whose truth is known.",
    "review": "Put drafts before people and take their verdicts in.",
    "audit": "Prove on the stored data that no split leaks into another.",
    "benchmarks": "Images of public benchmarks that may never be trained on.",
    "query": "Ask the stored data a question in SQL.",
    "versions": "Published dataset versions: list, diff, tag.",
    "evaluate": "A model before a held-out set or a benchmark, with its controls.",
    "models": "Registered models, their lineage and the champions.",
    "promote": "Make a registered model the champion of its role.",
    "rollback": "Back to the champion before this one.",
    "explain": "One item from its image's hash to the models that trained on it.",
    "compact": "Merge small files and clear what no version needs.",
    "doctor": "Check this machine, the settings and the storage.",
    "config": "The settings in force and where they come from.",
}


class LazyGroup(click.Group):
    """Names and one-line helps from COMMANDS; the module behind a name only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"medgr2.flows.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="medgr2")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
def cli(debug: bool) -> None:
    """medgr2: images in, trusted question-answer data and better compact models out.

    Everything lives under MEDGR2_STORAGE__ROOT (default ./.medgr2): a folder, or s3://bucket/prefix.
    """


def main(arguments: list[str] | None = None) -> None:
    args = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(args))


def run(args: list[str]) -> int:
    try:
        result: Any = cli.main(args=args, prog_name="medgr2", standalone_mode=False)
        return result if isinstance(result, int) else ExitCode.OK
    except Medgr2Error as e:
        return _say(str(e), e.exit_code)
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.ClickException as e:
        return _say(str(_as_usage(e)), ExitCode.USAGE)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted; what was finished is kept, the same command goes on from there", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader went away (`medgr2 query ... | head`): not an error of ours.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        return ExitCode.OK
    except Exception as e:
        if "--debug" in args:
            raise
        return _say(
            f"unexpected {type(e).__name__}: {e}\n  next:  medgr2 --debug {' '.join(args)}  shows where",
            ExitCode.INTERNAL,
        )


def _say(message: str, code: int) -> int:
    click.echo(f"error: {message}", err=True)
    return int(code)


def _as_usage(e: click.ClickException) -> UsageError:
    path = e.ctx.command_path if isinstance(e, click.UsageError) and e.ctx else "medgr2"
    return UsageError(e.format_message(), next_command=f"{path} --help")


if __name__ == "__main__":
    main()
