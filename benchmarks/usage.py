"""What this process has used so far. The C programs of load/ report the same."""

import resource
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
