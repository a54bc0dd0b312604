"""What this process has used so far. The C programs of load/ report the same."""

import resource
import sys
import time


def snapshot() -> dict:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "user": used.ru_utime,
        "system": used.ru_stime,
        "wall": time.monotonic(),
        "minor_faults": used.ru_minflt,
        "voluntary": used.ru_nvcsw,
        "involuntary": used.ru_nivcsw,
        "max_rss_kib": used.ru_maxrss,
    }


def resident_bytes() -> int:
    """The resident size now, or the largest so far where the system tells no other."""
    try:
        with open("/proc/self/statm") as numbers:
            return int(numbers.read().split()[1]) * resource.getpagesize()
    except OSError:
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024


def difference(before: dict, after: dict) -> dict:
    """What was used in between; the largest resident size is a level and stays."""
    spent = {key: after[key] - before[key] for key in before}
    spent["max_rss_kib"] = after["max_rss_kib"]
    spent["cpu"] = spent["user"] + spent["system"]
    return spent


def raise_descriptor_limit() -> None:
    """A thousand connections do not fit into the 1024 descriptors many systems give."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        # macOS calls the hard limit unlimited and then refuses it.
        pass
