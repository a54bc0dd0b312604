"""Where a result was measured: what one must know to compare it with another."""

import os
import platform


def describe():
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "load_average": os.getloadavg(),
    }


def processor():
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.partition(":")[2] for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0].strip() if names else platform.processor()


def cores():
    """The cores for server and client: two different ones where there are two."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]
