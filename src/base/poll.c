/* poll.c -- the table of watches: claims, wishes, dispatch. */
#include "base/poll.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>

#include "base/error.h"

enum { FIRST_CAPACITY = 64, MAX_STRAY_WAITS = 3 };

/* So many waits in vain before any is left out, so many left out in a row, as
 * long as the turns between two waits take no longer than this altogether. */
enum { VAIN_WAITS = 64, MAX_STRIDE = 15 };
static const double stride_seconds = 50e-6;

int
af_poll_init(AfPoll *poll)
{
    memset(poll, 0, sizeof(*poll));
    poll->backend = af_backend_open();
    return poll->backend == NULL ? -1 : 0;
}

static void
watch_hold(AfWatch *watch)
{
    if (!watch->held) {
        watch->held = true;
        Py_INCREF(watch->owner);
    }
}

static void
watch_drop(AfWatch *watch)
{
    if (watch->held) {
        watch->held = false;
        Py_DECREF(watch->owner);
    }
}

static void
poll_unlink_dirty(AfPoll *poll, AfWatch *watch)
{
    if (!watch->dirty) {
        return;
    }
    AfWatch **link = &poll->dirty;
    while (*link != watch) {
        link = &(*link)->next_dirty;
    }
    *link = watch->next_dirty;
    watch->dirty = false;
}

/* Returns an errno value. */
static int
watch_arm(AfPoll *poll, AfWatch *watch, int events)
{
    uint32_t serial = ++poll->serial;
    int code =
        af_backend_set(poll->backend, watch->fd, watch->armed, events, serial);
    if (code == 0) {
        watch->armed = (uint8_t)events;
        watch->serial = serial;
    }
    return code;
}

static int
poll_make_room(AfPoll *poll, int fd)
{
    if (fd < poll->capacity) {
        return 0;
    }
    if (fcntl(fd, F_GETFD) < 0) {
        /* Any number may come in here: allocate only for a real one. */
        af_error_from_errno(errno);
        return -1;
    }
    int capacity = poll->capacity ? poll->capacity : FIRST_CAPACITY;
    while (capacity <= fd) {
        capacity *= 2;
    }
    AfWatch **watches = poll->watches;
    PyMem_Resize(watches, AfWatch *, (size_t)capacity);
    if (watches == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(watches + poll->capacity, 0,
           (size_t)(capacity - poll->capacity) * sizeof(AfWatch *));
    poll->watches = watches;
    poll->capacity = capacity;
    return 0;
}

AfWatch *
af_poll_find(const AfPoll *poll, int fd)
{
    return fd >= 0 && fd < poll->capacity ? poll->watches[fd] : NULL;
}

/* Whoever had this number before: the descriptor was closed without a word, or
 * its last wish is still to be withdrawn, which must not hit its successor. */
static void
poll_evict(AfPoll *poll, int fd)
{
    AfWatch *former;
    while ((former = af_poll_find(poll, fd)) != NULL) {
        af_poll_release(poll, former);
    }
}

int
af_poll_claim(AfPoll *poll, AfWatch *watch, int fd)
{
    poll_evict(poll, fd);
    if (poll_make_room(poll, fd) < 0) {
        return -1;
    }
    poll->watches[fd] = watch;
    poll->claimed++;
    watch->fd = fd;
    return 0;
}

void
af_poll_release(AfPoll *poll, AfWatch *watch)
{
    if (watch->fd < 0) {
        return;
    }
    poll_unlink_dirty(poll, watch);
    if (watch->armed && poll->backend != NULL) {
        (void)watch_arm(poll, watch, 0);
    }
    watch->armed = watch->wanted = 0;
    if (af_poll_find(poll, watch->fd) == watch) {
        poll->watches[watch->fd] = NULL;
        poll->claimed--;
    }
    watch->fd = -1;
    watch_drop(watch);
}

static void
poll_mark_dirty(AfPoll *poll, AfWatch *watch)
{
    if (!watch->dirty) {
        watch->dirty = true;
        watch->next_dirty = poll->dirty;
        poll->dirty = watch;
    }
}

/* A wish that can't wait: the first one, for its errors; one that follows a
 * withdrawal, because the descriptor may have been closed and its number given
 * to another file in between; any from another thread during a wait. */
static bool
watch_is_urgent(const AfPoll *poll, const AfWatch *watch)
{
    return watch->armed == 0 || poll->waiting
           || (watch->wanted == 0 && !watch->private_fd);
}

int
af_poll_want(AfPoll *poll, AfWatch *watch, int events)
{
    if (watch->wanted == events || watch->fd < 0 || poll->backend == NULL) {
        return 0;
    }
    if (events != 0 && watch_is_urgent(poll, watch)) {
        int code = watch_arm(poll, watch, events);
        if (code != 0) {
            af_error_from_errno(code);
            return -1;
        }
        watch_hold(watch);
    }
    watch->wanted = (uint8_t)events;
    poll_mark_dirty(poll, watch);
    if (poll->waiting) {
        af_poll_wake(poll);
    }
    return 0;
}

void
af_poll_flush(AfPoll *poll)
{
    AfWatch *watch;
    while ((watch = poll->dirty) != NULL) {
        poll->dirty = watch->next_dirty;
        watch->dirty = false;
        if (watch->wanted != watch->armed
            && watch_arm(poll, watch, watch->wanted) != 0) {
            /* The descriptor was closed behind our back: nothing more can
             * come from it. */
            watch->armed = watch->wanted = 0;
        }
        if (watch->wanted == 0) {
            watch_drop(watch);
        }
    }
}

/* Tell a fresh poll set of everything that is wanted. */
static void
poll_arm_all(AfPoll *poll)
{
    for (int fd = 0; fd < poll->capacity; fd++) {
        AfWatch *watch = poll->watches[fd];
        if (watch != NULL && watch->armed) {
            watch->armed = 0;
            (void)watch_arm(poll, watch, watch->wanted);
        }
    }
}

/* Whoever has begun a wake-up is about to write to a descriptor of ours. */
static void
poll_await_wakers(AfPoll *poll)
{
    while (atomic_load(&poll->wakers) > 0) {
        sched_yield();
    }
}

static int
poll_start_over(AfPoll *poll)
{
    poll_await_wakers(poll);
    int code = af_backend_reset(poll->backend);
    if (code != 0) {
        af_error_from_errno(code);
        return -1;
    }
    poll_arm_all(poll);
    return 0;
}

int
af_poll_after_fork(AfPoll *poll)
{
    poll->waiting = poll->woken = false;
    atomic_store(&poll->wakers, 0);
    return poll->backend == NULL ? 0 : poll_start_over(poll);
}

static int
poll_dispatch(AfPoll *poll, const AfEvent *events, int count)
{
    bool strays = false;
    for (int i = 0; i < count; i++) {
        AfWatch *watch = af_poll_find(poll, events[i].fd);
        if (watch == NULL || !watch->armed
            || watch->serial != events[i].serial) {
            strays = true;
            continue;
        }
        int ready = events[i].events & watch->wanted;
        if (ready && watch->on_ready(watch, ready) < 0) {
            return -1;
        }
    }
    poll->strays = strays ? poll->strays + 1 : 0;
    return 0;
}

/* A descriptor closed while another process still has the file open can't be
 * taken out of the poll set any more and reports for ever. */
static int
poll_shake_off_strays(AfPoll *poll)
{
    if (poll->strays < MAX_STRAY_WAITS) {
        return 0;
    }
    poll->strays = 0;
    return poll_start_over(poll);
}

bool
af_poll_is_late(const AfPoll *poll)
{
    return af_monotonic() - poll->last > stride_seconds;
}

/* A busy loop pays for each wait what several callbacks cost. */
static void
poll_found_nothing(AfPoll *poll)
{
    if (poll->vain < VAIN_WAITS) {
        poll->vain++;
        return;
    }
    double now = af_monotonic();
    bool quick = now - poll->last < stride_seconds;
    poll->last = now;
    poll->stride = quick ? poll->stride * 2 + 1 : poll->stride / 2;
    if (poll->stride > MAX_STRIDE) {
        poll->stride = MAX_STRIDE;
    }
    poll->skips = poll->stride;
}

static void
waits_add(AfWaits *waits, uint64_t ended)
{
    waits->idle += ended - waits->began;
    waits->gil += af_monotonic_ns() - ended;
    waits->began = 0;
}

static int
poll_sleep(AfPoll *poll, double timeout, AfAsleep asleep, PyObject *item,
           AfEvent *events)
{
    int count;
    bool timed = poll->waits.on;
    uint64_t ended = 0;
    poll->waits.began = timed ? af_monotonic_ns() : 0;
    poll->waiting = true;
    Py_BEGIN_ALLOW_THREADS
    if (asleep != NULL) {
        asleep(item);
    }
    count = af_backend_wait(poll->backend, timeout, events);
    ended = timed ? af_monotonic_ns() : 0;
    Py_END_ALLOW_THREADS
    poll->waiting = poll->woken = false;
    if (timed) {
        waits_add(&poll->waits, ended);
    }
    return count;
}

static int
poll_glance(AfPoll *poll, AfAsleep asleep, PyObject *item, AfEvent *events)
{
    if (asleep != NULL) {
        asleep(item);
    }
    return af_backend_wait(poll->backend, 0, events);
}

int
af_poll_wait(AfPoll *poll, double timeout, AfAsleep asleep, PyObject *item)
{
    AfEvent events[AF_MAX_EVENTS];
    int count = timeout == 0 ? poll_glance(poll, asleep, item, events)
                             : poll_sleep(poll, timeout, asleep, item, events);
    if (timeout == 0 && count == 0) {
        poll->strays = 0;
        poll_found_nothing(poll);
        return 0;
    }
    af_poll_stir(poll);
    /* Before any callback: one that a signal's handler interrupts would have
     * to answer for what the handler raises. */
    if ((timeout != 0 || count == -EINTR) && PyErr_CheckSignals() < 0) {
        return -1;
    }
    if (count == -EINTR) {
        return 0;
    }
    if (count < 0) {
        af_error_from_errno(-count);
        return -1;
    }
    if (poll_dispatch(poll, events, count) < 0) {
        return -1;
    }
    return poll_shake_off_strays(poll);
}

bool
af_poll_wake_begin(AfPoll *poll)
{
    if (!poll->waiting || poll->woken) {
        return false;
    }
    poll->woken = true;
    poll->wakes++;
    atomic_fetch_add(&poll->wakers, 1);
    return true;
}

void
af_poll_wake_end(AfPoll *poll)
{
    af_backend_wake(poll->backend);
    atomic_fetch_sub(&poll->wakers, 1);
}

void
af_poll_wake(AfPoll *poll)
{
    if (af_poll_wake_begin(poll)) {
        af_poll_wake_end(poll);
    }
}

void
af_poll_close(AfPoll *poll)
{
    if (poll->backend == NULL) {
        return;
    }
    poll_await_wakers(poll);
    af_backend_close(poll->backend);
    poll->backend = NULL;
    poll->dirty = NULL;
    for (int fd = 0; fd < poll->capacity; fd++) {
        AfWatch *watch = poll->watches[fd];
        poll->watches[fd] = NULL;
        if (watch != NULL) {
            watch->armed = watch->wanted = 0;
            watch->dirty = false;
            watch->fd = -1;
            watch_drop(watch);
        }
    }
    PyMem_Free(poll->watches);
    poll->watches = NULL;
    poll->capacity = poll->claimed = 0;
}

int
af_poll_traverse(AfPoll *poll, visitproc visit, void *arg)
{
    for (int fd = 0; fd < poll->capacity; fd++) {
        if (poll->watches[fd] != NULL && poll->watches[fd]->held) {
            Py_VISIT(poll->watches[fd]->owner);
        }
    }
    return 0;
}
