"""The log of a run: one JSON object a line, which a resumed run continues without a gap."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


class Journal:
    """Append records to a .jsonl file; `position` is what a checkpoint remembers of it.

    The file is on the disk up to `position` when `position` is read, and opening it at a position
    cuts off what was written later, so that steps which are done again are not logged twice.
    """

    def __init__(self, path: Path | str, *, position: int = 0) -> None:
        self.path = Path(path)
        self._file = open(self.path, "ab")  # noqa: SIM115 - closed by close()
        if self._file.tell() > position:
            self._file.truncate(position)
            self._file.seek(position)

    def write(self, **record: Any) -> None:
        """Add one line; numbers that JSON does not know (NaN, infinity) become null."""
        record = {k: None if _unknown_to_json(v) else v for k, v in record.items()}
        try:
            self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise OSError(
                f"train: cannot write the log {self.path} ({error.strerror or error}); make room, "
                f"and go on with --resume {self.path.parent}"
            ) from error

    @property
    def position(self) -> int:
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        with suppress(OSError):  # of a full disk, which `write` has reported
            self._file.close()


def read_journal(path: Path | str) -> list[dict[str, Any]]:
    """The records of a log; a last line that is cut off, as a kill can leave it, is left out."""
    return list(_records(Path(path)))


def _records(path: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last line end is cut off
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"read_journal: {path} line {number} is not JSON ({error}); remove that line"
            ) from error


def _unknown_to_json(value: Any) -> bool:
    return isinstance(value, float) and (value != value or value in (float("inf"), -float("inf")))
