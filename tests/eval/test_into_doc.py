"""What a command wrote stands in a document as it was, and its links still lead to the files beside it."""

from __future__ import annotations

import pytest

from dsv4.errors import InputError
from dsv4.eval import into_doc

DOCUMENT = "# A\n<!-- turns:begin (unedited) -->\nold\n<!-- turns:end -->\nkept\n"


def test_only_what_stands_between_the_marks_is_replaced(tmp_path) -> None:
    (tmp_path / "turns").mkdir()
    (tmp_path / "a.md").write_text(DOCUMENT)
    said = '1. **hi** [x](01.svg) <img src="01.svg" width="9">\n   [far](https://example.org/a) (usually)\n'
    (tmp_path / "turns" / "t.md").write_text(said)
    for _ in range(2):  # putting it in again changes nothing
        assert into_doc.main([str(tmp_path / "a.md"), "turns", str(tmp_path / "turns" / "t.md")]) == 0
    expected = said.replace("(01.svg)", "(turns/01.svg)").replace('"01.svg"', '"turns/01.svg"')
    assert (tmp_path / "a.md").read_text() == DOCUMENT.replace("old\n", expected)


@pytest.mark.parametrize(
    ("document", "name", "told"),
    [(DOCUMENT, "turn", "did you mean 'turns'"), ("", "turns", "needs a line"), (DOCUMENT[:-25], "turns", "needs")],
)
def test_marks_that_are_missing_are_told(document, name, told) -> None:
    with pytest.raises(InputError, match=told):
        into_doc.put(document, name, "new")
