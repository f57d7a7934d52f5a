"""What a program and its descendants use, as the kernel counts it.

SPDX-License-Identifier: MIT
"""
import os
import re
import time

TICK = os.sysconf("SC_CLK_TCK")
CPUCLOCK_SCHED = 2  # include/linux/posix-timers.h: all threads, those that ended too
KTHREADD = 2


def fields(pid):
    """Those of /proc/PID/stat behind the name, which may hold blanks."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def parents():
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found[int(name)] = int(fields(name)[1])
            except (FileNotFoundError, ProcessLookupError):
                pass  # it ended meanwhile
    return found


def tree(root):
    """The process and its descendants."""
    parent_of, members = parents(), [root]
    for pid in members:
        members += [child for child, parent in parent_of.items() if parent == pid]
    return members


def cpu_ns(pids):
    """User and system time, that of children waited for included."""
    total = 0
    for pid in pids:
        total += time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED)
        children = fields(pid)[13:15]
        total += sum(int(ticks) for ticks in children) * 1_000_000_000 // TICK
    return total


def pss(pids):
    """Bytes of memory, pages that several processes share counted in parts."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += int(re.search(r"^Pss:\s+(\d+) kB", file.read(), re.M).group(1)) * 1024
    return total


def kernel_threads_ns():
    """CPU time of each; they come and go."""
    found = {}
    for pid, parent in parents().items():
        if parent == KTHREADD:
            try:
                found[pid] = cpu_ns([pid])
            except OSError:
                pass
    return found
