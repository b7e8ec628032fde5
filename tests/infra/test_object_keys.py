from __future__ import annotations

import pytest

from medgr2.infra.object_keys import check_key
from medgr2.schemas.errors import UsageError


@pytest.mark.parametrize("key", ["a", "a/b.json", "staging/publish/ab.parquet", "images/sha256/ab/abc", "ä/ö"])
def test_ordinary_names_pass(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["..", "a/..", "/etc/passwd", "a\0b", "a/" * 500 + "a"])
def test_names_that_a_folder_or_a_bucket_cannot_hold_are_refused(key: str) -> None:
    with pytest.raises(UsageError, match="not a name"):
        check_key(key)
