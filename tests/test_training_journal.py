"""The log is a file of lines that lives through a kill and a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from minswin.training.progress import Journal, read_journal


def test_a_log_opened_at_a_position_forgets_what_came_after(tmp_path):
    journal = Journal(tmp_path / "log")
    journal.write(kind="a", value=1)
    position = journal.position
    journal.write(kind="b", value=float("nan"))
    journal.close()
    assert read_journal(tmp_path / "log") == [
        {"kind": "a", "value": 1},
        {"kind": "b", "value": None},
    ]
    again = Journal(tmp_path / "log", position=position)
    again.write(kind="c")
    again.close()
    assert [r["kind"] for r in read_journal(tmp_path / "log")] == ["a", "c"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_log_on_a_full_disk_is_named_and_can_be_closed():
    journal = Journal("/dev/full")
    with pytest.raises(
        OSError, match=r"train: cannot write the log /dev/full \(No space left.*--res"
    ):
        journal.write(kind="a")
    journal.close()


def test_a_log_that_ends_in_half_a_line_is_read_up_to_there(tmp_path):
    (tmp_path / "log").write_text('{"kind": "a"}\n{"kin')
    assert read_journal(tmp_path / "log") == [{"kind": "a"}]
    (tmp_path / "log").write_text('{"kin\n{"kind": "a"}\n')
    with pytest.raises(ValueError, match=r"log line 1 is not JSON .*; remove that line"):
        read_journal(tmp_path / "log")
