"""docs/security.md: the table of limits is the one in the code, and every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

from dsv4 import limits

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text("utf-8")


def test_the_table_of_limits_is_the_one_in_the_code():
    expected = {
        "body of a request": f"{limits.BODY_BYTES:,} bytes",
        "a file that is shown": f"{limits.UPLOAD_BYTES:,} bytes",
        "a file of a batch": f"{limits.BATCH_BYTES:,} bytes",
        "time for a body to arrive": f"{limits.BODY_SECONDS} seconds",
        "JSON": f"{limits.JSON_DEPTH} levels",
        "messages in a request": f"{limits.MESSAGES}",
        "characters of a prompt": f"{limits.PROMPT_CHARACTERS:,}",
        "pictures in a message": f"{limits.PICTURES}",
        "pages of a document": f"{limits.DOCUMENT_PAGES}",
        "jobs of one person in the queue": f"{limits.QUEUED_JOBS}",
        "uploads of one person at once": f"{limits.OPEN_UPLOADS}",
        "pictures of one request": f"{limits.IMAGES_AT_ONCE}",
        "rows of a batch": f"{limits.BATCH_ROWS:,}",
        "bytes of a batch line": f"{limits.BATCH_LINE_BYTES:,}",
        "wrong secrets of an address": f"{limits.LOGIN_TRIES} a minute",
        "requests of a key": f"{limits.REQUESTS_A_MINUTE} a minute",
        "an archive that is taken in": f"{limits.ARCHIVE_FILES:,} files, {limits.ARCHIVE_BYTES:,} bytes unpacked, "
        f"{limits.ARCHIVE_RATIO} for each packed one",
        "a zip of a repository": f"{limits.REPO_FILES:,} files, {limits.REPO_BYTES:,} bytes unpacked, "
        f"{limits.ARCHIVE_RATIO} for each packed one",
        "a fetched picture": f"{limits.FETCH_BYTES:,} bytes, {limits.FETCH_SECONDS} seconds",
    }
    table = TEXT[TEXT.index("<!-- limits:begin -->") : TEXT.index("<!-- limits:end -->")]
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", table, flags=re.M))
    rows.pop("limit")
    assert rows == expected


def test_every_promise_names_a_test_that_exists():
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(named) >= 10 and all(f"def {name}(" in sources for name in named)
    assert all((ROOT / path).is_file() for path in re.findall(r"`(tests/[\w/]+\.py)`", TEXT))
