/* poll.h -- waiting for descriptors.
 *
 * A watch is one descriptor with the events its owner wants. The poller keeps
 * a table of them, tells the operating system about changes as late as it can
 * (a change that is undone before the next wait costs nothing), waits, and
 * calls the watches that became ready.
 *
 * Two backends implement the last section: poll_epoll.c on Linux, poll_uv.c
 * (libuv) everywhere else. src/README.md says why Linux has its own.
 *
 * Ownership: a watch is embedded in its owner, a Python object. Claiming a
 * descriptor only borrows the owner; from the moment that events are wanted
 * until the operating system was told that none are, the poller holds one
 * reference to it.
 *
 * Threads: all of this runs with the GIL held, which is the only lock, but for
 * af_poll_wake_end; af_poll_wait releases it while it blocks.
 */
#ifndef AF_BASE_POLL_H
#define AF_BASE_POLL_H

#include "base/compat.h"

#include <stdatomic.h>

enum { AF_READ = 1, AF_WRITE = 2 };

typedef struct AfWatch AfWatch;

/* 0, or -1 with KeyboardInterrupt or SystemExit set: nothing else may escape. */
typedef int (*AfOnReady)(AfWatch *watch, int events);

struct AfWatch {
    PyObject *owner; /* borrowed: contains this watch; see Ownership above */
    AfOnReady on_ready;
    AfWatch *next_dirty;
    uint32_t serial; /* tells this registration from earlier ones of the fd */
    int fd;          /* -1: no descriptor claimed */
    uint8_t wanted;  /* events the owner wants */
    uint8_t armed;   /* events the operating system was told */
    bool dirty;      /* wanted may differ from armed */
    bool held;       /* the poller holds a reference to the owner */
    bool private_fd; /* nobody else closes the descriptor while it's claimed */
};

typedef struct {
    uint32_t serial;
    int fd;
    int events;
} AfEvent;

typedef struct AfBackend AfBackend;

/* What waits without the GIL have taken, in nanoseconds, while `on`. */
typedef struct {
    bool on;
    uint64_t began; /* the wait that is under way; zero: none */
    uint64_t idle;  /* until something came, or the time was over */
    uint64_t gil;   /* from then until no other thread had the GIL */
} AfWaits;

typedef struct {
    AfBackend *backend; /* NULL: closed */
    AfWatch **watches;  /* by descriptor */
    AfWatch *dirty;
    int capacity;
    int claimed;    /* descriptors that have a watch */
    uint64_t wakes; /* wake-ups that other threads have sent */
    AfWaits waits;
    uint32_t serial;
    int strays;   /* waits in a row that reported unknown descriptors */
    int vain;     /* waits in a row that weren't allowed to take time, and found
                     nothing */
    int stride;   /* turns to skip after each of them, once they are many */
    int skips;    /* turns yet to skip */
    double last;  /* when the last of them was */
    bool waiting; /* blocked without the GIL */
    bool woken;   /* a wake-up is already on its way */
    atomic_int wakers; /* threads that are about to send it */
} AfPoll;

/* What a loop's thread does when it goes to sleep, after it gave up the GIL. */
typedef void (*AfAsleep)(PyObject *item);

/* 0, or -1 with OSError or MemoryError. */
int af_poll_init(AfPoll *poll);

/* Forget every watch and drop the references held; idempotent. */
void af_poll_close(AfPoll *poll);

/* Put `watch` in charge of `fd`, in place of whatever was: that may run its
 * destructors. 0, or -1 with MemoryError or OSError. */
int af_poll_claim(AfPoll *poll, AfWatch *watch, int fd);

/* Undo a claim and every wish with it, at once. May free the owner. */
void af_poll_release(AfPoll *poll, AfWatch *watch);

/* The watch in charge of `fd`, or NULL. */
AfWatch *af_poll_find(const AfPoll *poll, int fd);

/* Change what a watch wants. A first wish reaches the operating system at
 * once, so that a descriptor which can't be watched is refused here.
 * 0, or -1 with OSError. */
int af_poll_want(AfPoll *poll, AfWatch *watch, int events);

/* Tell the operating system what changed. */
void af_poll_flush(AfPoll *poll);

/* Turns that were quick may become slow. */
enum { AF_LOOK_AT_CLOCK_EVERY = 4 };
bool af_poll_is_late(const AfPoll *poll);

/* True if a wait that may take no time can be left out this turn: when many in a
 * row found nothing, and a few turns follow each other quickly. */
static inline bool
af_poll_skip(AfPoll *poll)
{
    if (poll->skips == 0 || poll->dirty != NULL
        || (poll->skips % AF_LOOK_AT_CLOCK_EVERY == 0
            && af_poll_is_late(poll))) {
        return false;
    }
    poll->skips--;
    return true;
}

/* Leave out no wait for now: something may come soon, because the loop begins
 * or has just sent something. */
static inline void
af_poll_stir(AfPoll *poll)
{
    poll->vain = poll->stride = poll->skips = 0;
}

/* Wait up to `timeout` seconds (negative: for ever) and call what is ready;
 * before that, `asleep(item)` if it isn't NULL.
 * 0, or -1 with an exception that leaves the loop. */
int af_poll_wait(AfPoll *poll, double timeout, AfAsleep asleep, PyObject *item);

/* End a wait that is under way. */
void af_poll_wake(AfPoll *poll);

/* The same in two halves, for a thread that gives up the GIL in between, so
 * that the woken one finds it free. If the first returns true, the second must
 * follow, and nothing in between may take the GIL: a poller that is closed
 * waits for it. */
bool af_poll_wake_begin(AfPoll *poll);
void af_poll_wake_end(AfPoll *poll);

/* In a forked child: part from the parent's poll set, keeping the watches. */
int af_poll_after_fork(AfPoll *poll);

/* Visit the references held. */
int af_poll_traverse(AfPoll *poll, visitproc visit, void *arg);

/* The backend. Codes are errno values, zero for success. */

enum { AF_MAX_EVENTS = 512 };

const char *af_backend_name(void);
/* NULL with an exception. */
AfBackend *af_backend_open(void);
void af_backend_close(AfBackend *backend);
int af_backend_set(AfBackend *backend, int fd, int before, int after,
                   uint32_t serial);
/* The number of events, or a negative errno value. Runs without the GIL unless
 * `timeout` is zero. */
int af_backend_wait(AfBackend *backend, double timeout, AfEvent *events);
void af_backend_wake(AfBackend *backend);
/* Start over with an empty poll set; the old one stays as it is for whoever
 * shares it. */
int af_backend_reset(AfBackend *backend);

#endif
