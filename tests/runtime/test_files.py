"""Files are written completely or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sightline.errors import InputError
from sightline.runtime.files import named_in_errors, written_whole


def test_a_finished_file_takes_its_place(tmp_path: Path) -> None:
    place = tmp_path / "a.bin"
    place.write_text("before")
    with written_whole(place) as partial:
        partial.write_text("after")
        assert place.read_text() == "before"
    assert place.read_text() == "after"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("full"), KeyboardInterrupt()])
def test_an_unfinished_file_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    place = tmp_path / "a.bin"
    place.write_text("before")
    said = pytest.raises(InputError, match=r"a\.bin: the model cannot be written there \((No space .*|full)\); choose")
    expected = said if isinstance(error, OSError) else pytest.raises(KeyboardInterrupt)
    with expected, written_whole(place, "the model") as partial:
        partial.write_text("half")
        raise error
    assert place.read_text() == "before"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "full"), "[Errno 28] full: 'a'"),
        (OSError(28, "full", ".a.partial"), "[Errno 28] full: 'a'"),
        (OSError(28, "full", "b"), "[Errno 28] full: 'b'"),
        (OSError("broken"), "broken"),
    ],
)
def test_errors_name_the_file_that_the_user_knows(error: OSError, words: str) -> None:
    with pytest.raises(OSError, match=f"^{re.escape(words)}$"), named_in_errors(Path("a"), Path(".a.partial")):
        raise error
