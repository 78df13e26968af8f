"""A slot has one holder, and a second one is told who that is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from processor.errors import SettingsError
from processor.slot import Slot, SlotTaken

pytestmark = pytest.mark.unit


def test_a_second_holder_is_refused_with_the_first_ones_process_and_time(tmp_path: Path) -> None:
    slot = Slot("one", "group", tmp_path)
    with pytest.raises(SlotTaken) as refused:
        Slot("one", "group", tmp_path)

    assert f"process {os.getpid()} on " in str(refused.value)
    assert "since 20" in str(refused.value)
    slot.release()


def test_a_slot_that_was_released_is_free(tmp_path: Path) -> None:
    Slot("one", "group", tmp_path).release()

    Slot("one", "group", tmp_path).release()


def test_names_and_scopes_are_slots_of_their_own(tmp_path: Path) -> None:
    slots = [Slot("one", "a", tmp_path), Slot("one", "b", tmp_path), Slot("two", "a", tmp_path)]

    assert len({slot.path for slot in slots}) == 3
    for slot in slots:
        slot.release()


def test_a_name_that_is_no_file_name_is_a_slot(tmp_path: Path) -> None:
    slot = Slot("../../etc/passwd \n" * 10, "group", tmp_path)

    assert slot.path.parent == tmp_path
    slot.release()


def test_the_slot_of_a_dead_process_is_free_whatever_it_left_in_the_file(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib, processor.slot as s\n"
        "s.Slot('one', 'group', pathlib.Path(sys.argv[1]))\n"
        "print('held', flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    held = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert held.returncode == -9
    assert "held" in held.stdout

    slot = Slot("one", "group", tmp_path)
    assert str(os.getpid()) in slot.path.read_text()
    slot.release()


def test_a_folder_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(SettingsError, match="somebody else"):
        Slot("one", "group", link)
