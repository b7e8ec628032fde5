"""SQL over the lake, for people: DuckDB reads, and can do nothing else.

DuckDB is handed the tables as Arrow datasets and no file name at all. Its own list of allowed paths would not do:
a path that may be read may also be written, and `COPY ... (USE_TMP_FILE FALSE)` inside a WITH empties a data file.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from medgr2.infra.lake import Lake
from medgr2.infra.lake_files import dataset_of
from medgr2.infra.objects import ObjectStore
from medgr2.infra.opening import open_store
from medgr2.infra.settings import StorageSettings
from medgr2.schemas.errors import UsageError
from medgr2.schemas.tables import TABLES

if TYPE_CHECKING:
    import duckdb

DEADLINE_SECONDS = 600.0
_READ_ONLY = "a query reads the tables of the lake and nothing else"


def _accuracy(of: str, which: str, newest: str = "") -> str:
    """Shares of the right and of the readable; of each item the newest row holds. `macro` is over modalities."""
    return f"""
        SELECT {of}, sum(n)::BIGINT AS n, sum(correct) / sum(n) AS accuracy, sum(parsed) / sum(n) AS parsed,
               avg(correct / n) AS macro
        FROM (
            SELECT {of}, modality, count(*) AS n, sum(correct::INT) AS correct, sum(parsed::INT) AS parsed
            FROM (
                SELECT * FROM evals WHERE {which}
                QUALIFY row_number() OVER (
                    PARTITION BY {of}, item_id ORDER BY {newest} evaluated_at DESC, eval_id DESC
                ) = 1
            ) GROUP BY ALL
        ) GROUP BY ALL"""  # noqa: S608  of words in this module


VIEWS = {
    "items_scored": """
        SELECT i.*, s.scorer, s.calibration, s.lp, s.agree, s.p_valid, s.tau, s.reasons, s.scored_at,
               coalesce(s.verdict, 'unscored') AS verdict
        FROM items i LEFT JOIN (
            SELECT * FROM scores
            QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY scored_at DESC NULLS LAST, score_id DESC) = 1
        ) s USING (item_id)""",
    # Rows older than the column do not say how they were asked: they hold where nothing else is known.
    "accuracy": _accuracy("model_id, dataset, version, condition", "own IS NOT FALSE", newest="own DESC NULLS LAST,"),
    "accuracy_as_asked": _accuracy("model_id, dataset, version, condition, asked, own", "TRUE"),
    "intake": """
        SELECT * FROM files
        QUALIFY row_number() OVER (PARTITION BY file_id ORDER BY seen_at DESC) = 1""",
    "verdicts": """
        SELECT * FROM reviews
        WHERE review_id NOT IN (SELECT corrects FROM reviews WHERE corrects IS NOT NULL)""",
    "failures": "SELECT * FROM outcomes WHERE outcome = 'failed'",
    "spending": """
        SELECT run, stage, count(*) AS cells, sum(calls) AS calls, sum(tokens_in) AS tokens_in,
               sum(tokens_out) AS tokens_out, sum(seconds) AS seconds, sum(money) AS money
        FROM outcomes WHERE calls IS NOT NULL GROUP BY run, stage""",
    "changes": """
        SELECT v.dataset, v.version, m.item_id, m.change, v.publish_id, v.published_at
        FROM membership m JOIN versions v USING (publish_id)""",
    "members": """
        WITH spans AS (
            SELECT dataset, item_id, change, version AS first,
                   lead(version) OVER (PARTITION BY dataset, item_id ORDER BY version) AS next
            FROM changes
        )
        SELECT v.dataset, v.version, s.item_id
        FROM versions v JOIN spans s
          ON s.dataset = v.dataset AND s.first <= v.version AND (s.next IS NULL OR v.version < s.next)
        WHERE s.change = 'added'""",
}


def connect(storage: StorageSettings) -> duckdb.DuckDBPyConnection:
    """A connection with a view for each table and for each of VIEWS, cut off from files and the network."""
    import duckdb

    lake, found = Lake(storage), duckdb.connect(":memory:")
    store = open_store(storage)
    for name, table in TABLES.items():
        files = lake.files(name)
        if storage.is_s3:
            files = [_cached(store, storage, uri) for uri in files]
        found.register(name, dataset_of(files, table.schema))
    for name, sql in VIEWS.items():
        found.execute(f"CREATE VIEW {name} AS {sql}")
    for setting in (
        "temp_directory = ''",
        "TimeZone = 'UTC'",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        found.execute(f"SET {setting}")
    return found


def query(storage: StorageSettings, sql: str, deadline_seconds: float = DEADLINE_SECONDS) -> pa.Table:
    """The answer to one reading statement."""
    import duckdb

    _check_one_reading_statement(sql)
    con = connect(storage)
    stopper = threading.Timer(deadline_seconds, con.interrupt)
    stopper.start()
    try:
        found = con.sql(sql).to_arrow_table()
        twice = sorted(name for name, n in Counter(found.column_names).items() if n > 1)
        if twice:
            raise UsageError(
                f"more than one column is called {twice[0]}", where="query", next_command="name them apart with AS"
            )
        return found
    except duckdb.InterruptException:
        raise UsageError(
            f"the query was stopped after {deadline_seconds:.0f} s", next_command="ask for less, or compact first"
        ) from None
    except duckdb.Error as e:
        raise _bad_sql(e) from None
    finally:
        stopper.cancel()
        con.close()


def _check_one_reading_statement(sql: str) -> None:
    import duckdb

    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as e:
        raise _bad_sql(e) from None
    if len(statements) != 1:
        raise UsageError(f"give one statement, not {len(statements)}", where="query")
    kind = statements[0].type
    reading = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)  # MULTI: PIVOT
    if kind not in reading:
        raise UsageError(f"{_READ_ONLY}: no {kind.name}", where="query", next_command="use SELECT")


def _bad_sql(e: Exception) -> UsageError:
    import duckdb

    if isinstance(e, duckdb.PermissionException):
        return UsageError(f"{_READ_ONLY}: {str(e).splitlines()[0]}", where="query", next_command="use the tables only")
    lines = [line.rstrip() for line in str(e).splitlines() if line.strip()]
    return UsageError("\n  ".join(lines[:6]), where="query", next_command="SHOW TABLES and DESCRIBE name the columns")


def _cached(store: ObjectStore, storage: StorageSettings, uri: str) -> str:
    """A local copy. The name of a data file is never used twice, so a copy is good for ever."""
    key = uri.removeprefix(storage.root + "/")
    root = hashlib.sha256(storage.root.encode()).hexdigest()[:16]
    path: Path = storage.cache_folder / "lake" / root / key.removeprefix("lake/")
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        store.get_file(key, path)
    return str(path)
