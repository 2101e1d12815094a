"""How much memory targets may use, and that the limit holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from initlint.workers import memory

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_less_than_all_of_the_machine_is_available() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    found = memory.available()
    assert found is not None
    assert 0 < found < (1 - memory.KEPT) * total


def test_a_container_counts_pages_that_can_be_dropped_as_free(tmp_path: Path) -> None:
    (tmp_path / "max").write_text("1000\n")
    (tmp_path / "current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\nactive_file 50\n")
    assert memory._container((str(tmp_path), "max", "current", "inactive_file")) == 450
    (tmp_path / "max").write_text("max\n")
    assert memory._container((str(tmp_path), "max", "current", "inactive_file")) is None
    assert memory._container((str(tmp_path / "none"), "max", "current", "inactive_file")) is None


@linux
@pytest.mark.parametrize(("asked", "status"), [(50, 0), (200, 1)])
def test_limit(asked: int, status: int) -> None:
    code = f"from initlint.workers.memory import limit\nlimit(100 * 2**20)\nbytearray({asked} * 2**20)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == status
    assert ("MemoryError" in done.stderr) == bool(status)
