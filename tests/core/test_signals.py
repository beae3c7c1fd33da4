"""A process of a launch ends with its launcher, even with one that is killed."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

CHILD = """
import time
from tercet.core.signals import end_with_parent
end_with_parent()
print("ready", flush=True)
time.sleep(300)
"""
LAUNCHER = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}])
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.fault("signals")
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has prctl")
def test_a_process_ends_with_a_launcher_that_is_killed() -> None:
    command = [sys.executable, "-c", LAUNCHER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout
        child = psutil.Process(int(launcher.stdout.readline()))
        assert launcher.stdout.readline() == "ready\n"
        launcher.kill()
        launcher.wait()
        deadline = time.monotonic() + 60
        while _works(child):
            assert time.monotonic() < deadline, "it is left"
            time.sleep(0.02)


def _works(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
