"""A Delta table at its address: opened, made as it is declared, and widened by what a newer release declares."""

from __future__ import annotations

from typing import Any

from medgr2.infra.settings import StorageSettings
from medgr2.schemas.tables import Table

STATISTICS = "delta.dataSkippingStatsColumns"


def open_table(uri: str, options: dict[str, str] | None) -> Any | None:
    """None before its first row."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(uri, storage_options=options)
    except TableNotFoundError:
        return None


def make_table(uri: str, declared: Table, options: dict[str, str] | None) -> Any:
    from deltalake import DeltaTable

    return DeltaTable.create(
        uri,
        schema=declared.schema,
        mode="ignore",
        name=declared.name,
        description=declared.about,
        configuration={STATISTICS: ",".join(declared.statistics), "delta.checkpointInterval": "10"},
        storage_options=options,
    )


def evolved(delta: Any, declared: Table) -> Any:
    from deltalake import Schema

    held = {f.name for f in delta.schema().fields}
    missing = [f for f in Schema.from_arrow(declared.schema).fields if f.name not in held]
    if missing:
        delta.alter.add_columns(missing)
    # Only ever widened: a process of an older release may be writing too.
    if not set(declared.statistics) <= set(delta.metadata().configuration.get(STATISTICS, "").split(",")):
        delta.alter.set_table_properties({STATISTICS: ",".join(declared.statistics)})
    return delta


def s3_options(storage: StorageSettings) -> dict[str, str] | None:
    if not storage.is_s3:
        return None
    s3 = storage.s3
    options = {"region": s3.region, "conditional_put": "etag", "timeout": "60s", "connect_timeout": "5s"}
    # One proof of identity for both clients: what boto3 would use, delta-rs is handed.
    if s3.access_key_id and s3.secret_access_key:
        options["access_key_id"] = s3.access_key_id.get_secret_value()
        options["secret_access_key"] = s3.secret_access_key.get_secret_value()
    if s3.endpoint_url:
        options["endpoint"] = s3.endpoint_url
        options["virtual_hosted_style_request"] = "false"
        options["allow_http"] = str(s3.endpoint_url.startswith("http://")).lower()
    return options
