"""Number of cores that a process may use."""

import joblib


def num_cores() -> int:
    """Return the number of cores that this process may use, at least 1.

    It is the minimum of the machine's cores, the CPU affinity, the CPU quota of the container (cgroup, rounded up) and
    the environment variable LOKY_MAX_CPU_COUNT.
    """
    return joblib.cpu_count()
