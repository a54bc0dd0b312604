/* poll_uv.c -- the poller's backend where there is no epoll, on libuv.
 *
 * Ownership: a uv_poll_t lives until its close callback has run, so each one
 * is allocated by itself and forgotten by the table when it is closed.
 *
 * Threads: libuv's callbacks may run without the GIL and touch only the arrays of
 * this file.
 */
#include "base/poll.h"

#if !defined(__linux__) || defined(AF_POLLER_UV)

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <uv.h>

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static const double max_wait = 24 * 3600;

typedef struct {
    uv_poll_t uv;
    struct AfBackend *backend; /* outlives its polls: it closes them */
    uint32_t serial;
    int fd;
    int wanted;
} Poll;

struct AfBackend {
    uv_loop_t uv;
    uv_async_t wake;
    uv_timer_t timer;
    Poll **polls; /* by descriptor */
    int capacity;
    AfEvent *events; /* of the wait under way */
    int count;
};

static void
on_wake(uv_async_t *wake)
{
    (void)wake;
}

/* Before 1.45 libuv runs timers ahead of its poll too, which would then have
 * no timer to end it: a loop that was told to stop doesn't block. */
static void
on_timer(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

static void
on_poll_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static int
from_uv(int events)
{
    return (events & ~UV_WRITABLE ? AF_READ : 0)
           | (events & ~UV_READABLE ? AF_WRITE : 0);
}

static void
poll_report(const Poll *poll, int events)
{
    AfBackend *backend = poll->backend;
    if (backend->count < AF_MAX_EVENTS) { /* or it is reported again */
        AfEvent *event = &backend->events[backend->count++];
        event->fd = poll->fd;
        event->serial = poll->serial;
        event->events = events;
    }
}

static void
on_poll(uv_poll_t *handle, int status, int events)
{
    const Poll *poll = handle->data;
    if (status < 0) {
        /* libuv takes any error for the descriptor's last and stops; a
         * datagram socket goes on after it. */
        (void)uv_poll_start(handle, poll->wanted, on_poll);
    }
    poll_report(poll, status < 0 ? AF_READ | AF_WRITE : from_uv(events));
}

static int
backend_start(AfBackend *backend)
{
    int err = uv_loop_init(&backend->uv);
    if (err < 0) {
        return err;
    }
    err = uv_async_init(&backend->uv, &backend->wake, on_wake);
    if (err < 0) {
        uv_loop_close(&backend->uv);
        return err;
    }
    return uv_timer_init(&backend->uv, &backend->timer);
}

const char *
af_backend_name(void)
{
    return "libuv";
}

AfBackend *
af_backend_open(void)
{
    AfBackend *backend = calloc(1, sizeof(AfBackend));
    if (backend == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    int err = backend_start(backend);
    if (err < 0) {
        free(backend);
        af_error_from_errno(-err);
        return NULL;
    }
    return backend;
}

static void
poll_close(AfBackend *backend, Poll *poll)
{
    backend->polls[poll->fd] = NULL;
    uv_close((uv_handle_t *)&poll->uv, on_poll_closed);
}

static void
backend_close_polls(AfBackend *backend)
{
    for (int fd = 0; fd < backend->capacity; fd++) {
        if (backend->polls[fd] != NULL) {
            poll_close(backend, backend->polls[fd]);
        }
    }
}

static void
backend_stop(AfBackend *backend)
{
    backend_close_polls(backend);
    uv_close((uv_handle_t *)&backend->wake, NULL);
    uv_close((uv_handle_t *)&backend->timer, NULL);
    while (uv_loop_close(&backend->uv) == UV_EBUSY) {
        uv_run(&backend->uv, UV_RUN_NOWAIT);
    }
}

void
af_backend_close(AfBackend *backend)
{
    backend_stop(backend);
    free(backend->polls);
    free(backend);
}

static int
backend_make_room(AfBackend *backend, int fd)
{
    if (fd < backend->capacity) {
        return 0;
    }
    int capacity = fd * 2 + 64;
    Poll **polls = realloc(backend->polls, (size_t)capacity * sizeof(Poll *));
    if (polls == NULL) {
        return ENOMEM;
    }
    memset(polls + backend->capacity, 0,
           (size_t)(capacity - backend->capacity) * sizeof(Poll *));
    backend->polls = polls;
    backend->capacity = capacity;
    return 0;
}

/* libuv switches a descriptor to non-blocking mode when it begins to poll it;
 * it is not ours to switch. */
static int
poll_init_keeping_mode(AfBackend *backend, Poll *poll, int fd)
{
    int mode = fcntl(fd, F_GETFL);
    if (mode < 0) {
        return errno;
    }
    int err = uv_poll_init(&backend->uv, &poll->uv, fd);
    if (err == 0 && !(mode & O_NONBLOCK)) {
        (void)fcntl(fd, F_SETFL, mode);
    }
    return -err;
}

static int
poll_open(AfBackend *backend, int fd)
{
    int code = backend_make_room(backend, fd);
    if (code != 0) {
        return code;
    }
    Poll *poll = calloc(1, sizeof(Poll));
    if (poll == NULL) {
        return ENOMEM;
    }
    code = poll_init_keeping_mode(backend, poll, fd);
    if (code != 0) {
        free(poll);
        return code;
    }
    poll->uv.data = poll;
    poll->backend = backend;
    poll->fd = fd;
    backend->polls[fd] = poll;
    return 0;
}

static int
to_uv(int events)
{
    return (events & AF_READ ? UV_READABLE : 0)
           | (events & AF_WRITE ? UV_WRITABLE : 0);
}

int
af_backend_set(AfBackend *backend, int fd, int before, int after,
               uint32_t serial)
{
    Poll *poll = fd < backend->capacity ? backend->polls[fd] : NULL;
    if (poll != NULL && (before == 0 || after == 0)) {
        poll_close(backend, poll);
        poll = NULL;
    }
    if (after == 0) {
        return 0;
    }
    if (poll == NULL) {
        int code = poll_open(backend, fd);
        if (code != 0) {
            return code;
        }
        poll = backend->polls[fd];
    }
    poll->serial = serial;
    poll->wanted = to_uv(after);
    return -uv_poll_start(&poll->uv, poll->wanted, on_poll);
}

static void
backend_arm_timer(AfBackend *backend, double timeout)
{
    if (timeout < 0) {
        uv_timer_stop(&backend->timer);
        return;
    }
    double milliseconds =
        ceil((timeout < max_wait ? timeout : max_wait) * 1000);
    uv_update_time(&backend->uv);
    uv_timer_start(&backend->timer, on_timer, (uint64_t)milliseconds, 0);
}

int
af_backend_wait(AfBackend *backend, double timeout, AfEvent *events)
{
    backend->events = events;
    backend->count = 0;
    if (timeout == 0) {
        uv_run(&backend->uv, UV_RUN_NOWAIT);
        return backend->count;
    }
    backend_arm_timer(backend, timeout);
    uv_run(&backend->uv, UV_RUN_ONCE);
    return backend->count;
}

void
af_backend_wake(AfBackend *backend)
{
    uv_async_send(&backend->wake);
}

int
af_backend_reset(AfBackend *backend)
{
    int err = uv_loop_fork(&backend->uv);
    backend_close_polls(backend);
    return -err;
}

#endif
