/* loop.h -- the loop's struct and the few functions every room may call. */
#ifndef AF_CORE_LOOP_H
#define AF_CORE_LOOP_H

#include "base/poll.h"
#include "base/ring.h"
#include "base/state.h"
#include "core/timers.h"

typedef struct AfLoop AfLoop;

/* What a ready entry does. Steals `item`.
 * 0, or -1 with an exception that leaves the loop. */
typedef int (*AfRun)(AfLoop *loop, PyObject *item);

/* What the descriptor room keeps for a loop; set up and freed by io/io.c. */
struct AfIo;

/* What is measured of each callback; see core/meter.h. */
struct AfMeter;

/* What a loop has done since it was made. */
typedef struct {
    uint64_t turns;
    uint64_t callbacks; /* entries of the ready ring that were run */
    uint64_t polls;
    uint64_t reads; /* system calls that received something */
    uint64_t writes;
    uint64_t bytes_read;
    uint64_t bytes_written;
    uint64_t ran;       /* nanoseconds in `run`, while waits are timed */
    uint64_t run_began; /* when this one was; zero: none, or it isn't timed */
} AfCounts;

struct AfLoop {
    PyObject_HEAD
    PyObject *module; /* owned */
    AfState *state;   /* borrowed: the module's */
    AfRing ready;     /* owned entries */
    AfRing trailing;  /* owned entries: what is due when this part ends */
    AfTimers timers;  /* owned timers */
    AfPoll poll;      /* owned watches: see base/poll.h */
    struct AfIo *io;  /* owned memory; NULL until a descriptor is used */
    AfCounts counts;
    struct AfMeter *meter; /* owned memory; NULL: callbacks aren't measured */
    PyObject *default_executor; /* owned; None or NULL until there is one */
    PyObject *workers;          /* owned; its work queue, if it is our own */
    AfAsleep on_sleep;          /* what is due when the loop sleeps */
    PyObject *sleep_item;     /* owned; its argument, NULL if nothing is due */
    PyObject *current_handle; /* owned; what runs, in debug mode only */
    PyObject *thread_id;      /* owned; None while the loop doesn't run */
    PyObject *spare_context;  /* owned; see core/context.c */
    PyObject *task_factory;   /* owned; NULL or None for our own Task */
    PyObject *current_task;   /* owned; what asyncio's dict has for the loop */
    AfLoop *next_loop;        /* borrowed: a loop unlinks itself when it dies */
    AfLoop *previous_loop;    /* borrowed: likewise */
    bool closed;
    bool stopping;
    bool in_part;   /* a part of a batch runs */
    uint32_t parts; /* the number of parts that have begun */
    int turning;    /* how many calls of run or run_once are under way */
    bool debug;
    bool executor_shut;     /* shutdown_default_executor was called */
    bool custom_time;       /* `time` is overridden by a subclass or instance */
    bool custom_future;     /* `create_future` likewise */
    bool custom_call_soon;  /* `call_soon` likewise */
    bool stepping;          /* a step of a task is under way */
    bool custom_threadsafe; /* `call_soon_threadsafe`, by an instance */
};

/* Nearly every program has one class of loops. */
static inline bool
af_loop_check(const AfState *state, PyObject *object)
{
    return Py_IS_TYPE(object, state->loop_class)
           || PyObject_TypeCheck(object, state->Loop_type);
}

/* True for a loop of ours on which scheduling a callback is seen by nobody: no
 * debug mode, no `call_soon` of the user's, and not closed. */
static inline bool
af_loop_is_plain(const AfState *state, PyObject *loop)
{
    if (!af_loop_check(state, loop)) {
        return false;
    }
    const AfLoop *own = (const AfLoop *)loop;
    return !own->debug && !own->custom_call_soon && !own->closed;
}

/* Schedule `run(loop, item)`. Steals `item`, also on failure.
 * 0, or -1 with MemoryError. */
static inline int
af_loop_push(AfLoop *loop, AfRun run, PyObject *item)
{
    return af_ring_push(&loop->ready, (void *)run, item);
}

/* Have `run(loop, item)` called when this part of the batch ends: after sixteen
 * callbacks at most, and before the loop polls. Only while loop->in_part. Steals
 * `item`, also on failure. 0, or -1 with MemoryError. */
static inline int
af_loop_push_trailing(AfLoop *loop, AfRun run, PyObject *item)
{
    return af_ring_push(&loop->trailing, (void *)run, item);
}

/* Run what is due when this part ends now; keeps the current exception.
 * 0, or -1 with an exception that leaves the loop. */
int af_loop_run_trailing(AfLoop *loop);

static inline void
af_loop_count_read(AfLoop *loop, ssize_t size)
{
    loop->counts.reads++;
    loop->counts.bytes_read += (uint64_t)size;
}

static inline void
af_loop_count_write(AfLoop *loop, ssize_t size)
{
    loop->counts.writes++;
    loop->counts.bytes_written += (uint64_t)size;
}

/* Have `asleep(item)` called once, when the loop goes to sleep or, if it
 * does not, when it next polls. In between only the last request counts. */
void af_loop_on_sleep(AfLoop *loop, AfAsleep asleep, PyObject *item);

/* 0, or -1 with RuntimeError if the loop is closed. */
int af_loop_check_closed(AfLoop *loop);

/* Store the loop's time in seconds. 0, or -1 with an exception from an
 * overridden `time`. */
int af_loop_now(AfLoop *loop, double *now);

/* A new Future of this loop; NULL with an exception. */
PyObject *af_loop_create_future(AfLoop *loop);

/* A pending future whose set_result nobody overrides. */
bool af_future_is_ours(const AfState *state, PyObject *future);

/* Give `future` a result or the current exception, unless it is done already.
 * 0, or -1 with an exception. */
int af_future_set_result(AfState *state, PyObject *future, PyObject *result);
int af_future_set_exception(AfState *state, PyObject *future);

/* Hand the current exception to the loop's exception handler, with `message`
 * and, where not NULL, the protocol and the transport it concerns.
 * 0, or -1 with an exception that leaves the loop. */
int af_loop_report(AfLoop *loop, const char *message, PyObject *protocol,
                   PyObject *transport);

/* Log at debug level if the loop is in debug mode: `format` has one %r for
 * `object`. */
void af_loop_debug_log(AfLoop *loop, const char *format, PyObject *object);

/* Poll, fire timers, run one batch. 0, or -1 with an exception. */
int af_loop_turn(AfLoop *loop);

/* Drop what is scheduled, watched and timed. Idempotent. */
void af_loop_shut(AfLoop *loop);

/* Methods, for the table in api/loop_type.c. */
PyObject *af_loop_run(PyObject *self, PyObject *ignored);
PyObject *af_loop_run_once(PyObject *self, PyObject *ignored);
PyObject *af_loop_stop(PyObject *self, PyObject *ignored);
PyObject *af_loop_time(PyObject *self, PyObject *ignored);
PyObject *af_loop_is_running(PyObject *self, PyObject *ignored);
PyObject *af_loop_is_closed(PyObject *self, PyObject *ignored);
PyObject *af_loop_get_debug(PyObject *self, PyObject *ignored);
PyObject *af_loop_check_closed_method(PyObject *self, PyObject *ignored);
PyObject *af_loop_create_future_method(PyObject *self, PyObject *ignored);

#endif
