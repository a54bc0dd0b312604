/* poll_epoll.c -- the poller's backend on Linux. */
#include "base/poll.h"

#if defined(__linux__) && !defined(AF_POLLER_UV)

#include <errno.h>
#include <math.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"

/* asyncio's limit; epoll_wait takes milliseconds in an int. */
static const double max_wait = 24 * 3600;

static const uint64_t wake_token = UINT64_MAX;

struct AfBackend {
    int epoll_fd;
    int wake_fd;
};

static int
backend_make_set(AfBackend *backend)
{
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) {
        return errno;
    }
    /* Told of each write, so that nobody has to read what was written. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET,
                                .data.u64 = wake_token};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, backend->wake_fd, &event) < 0) {
        int code = errno;
        close(epoll_fd);
        return code;
    }
    backend->epoll_fd = epoll_fd;
    return 0;
}

static int
backend_make(AfBackend *backend)
{
    backend->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (backend->wake_fd < 0) {
        return errno;
    }
    int code = backend_make_set(backend);
    if (code != 0) {
        close(backend->wake_fd);
    }
    return code;
}

const char *
af_backend_name(void)
{
    return "epoll";
}

AfBackend *
af_backend_open(void)
{
    AfBackend *backend = PyMem_New(AfBackend, 1);
    if (backend == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    int code = backend_make(backend);
    if (code != 0) {
        PyMem_Free(backend);
        af_error_from_errno(code);
        return NULL;
    }
    return backend;
}

void
af_backend_close(AfBackend *backend)
{
    close(backend->epoll_fd);
    close(backend->wake_fd);
    PyMem_Free(backend);
}

static uint32_t
to_epoll(int events)
{
    return (events & AF_READ ? EPOLLIN : 0u)
           | (events & AF_WRITE ? EPOLLOUT : 0u);
}

/* As in the selectors module: errors and hang-ups wake both directions. */
static int
from_epoll(uint32_t events)
{
    return (events & ~(uint32_t)EPOLLOUT ? AF_READ : 0)
           | (events & ~(uint32_t)EPOLLIN ? AF_WRITE : 0);
}

/* The kernel's set may know more or less than we think: it forgets a closed
 * descriptor by itself, and keeps one of which a duplicate is open. */
static int
set_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    if (epoll_ctl(epoll_fd, operation, fd, event) == 0) {
        return 0;
    }
    if (operation == EPOLL_CTL_ADD && errno == EEXIST) {
        operation = EPOLL_CTL_MOD;
    }
    else if (operation == EPOLL_CTL_MOD && errno == ENOENT) {
        operation = EPOLL_CTL_ADD;
    }
    else {
        return errno;
    }
    return epoll_ctl(epoll_fd, operation, fd, event) == 0 ? 0 : errno;
}

int
af_backend_set(AfBackend *backend, int fd, int before, int after,
               uint32_t serial)
{
    struct epoll_event event = {
        .events = to_epoll(after),
        .data.u64 = (uint64_t)serial << 32 | (uint32_t)fd,
    };
    if (after == 0) {
        (void)epoll_ctl(backend->epoll_fd, EPOLL_CTL_DEL, fd, &event);
        return 0;
    }
    int operation = before == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    return set_ctl(backend->epoll_fd, operation, fd, &event);
}

/* Rounded up: a timer must not find that it is early and wait again. */
static int
to_milliseconds(double timeout)
{
    if (timeout < 0) {
        return -1;
    }
    return (int)ceil((timeout < max_wait ? timeout : max_wait) * 1000);
}

int
af_backend_wait(AfBackend *backend, double timeout, AfEvent *events)
{
    struct epoll_event reported[AF_MAX_EVENTS];
    int count = epoll_wait(backend->epoll_fd, reported, AF_MAX_EVENTS,
                           to_milliseconds(timeout));
    if (count < 0) {
        return -errno;
    }
    int kept = 0;
    for (int i = 0; i < count; i++) {
        if (reported[i].data.u64 == wake_token) {
            continue;
        }
        events[kept].fd = (int)(uint32_t)reported[i].data.u64;
        events[kept].serial = (uint32_t)(reported[i].data.u64 >> 32);
        events[kept].events = from_epoll(reported[i].events);
        kept++;
    }
    return kept;
}

void
af_backend_wake(AfBackend *backend)
{
    uint64_t one = 1;
    while (write(backend->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR) {}
}

int
af_backend_reset(AfBackend *backend)
{
    int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd < 0) {
        return errno;
    }
    AfBackend fresh = {.wake_fd = wake_fd};
    int code = backend_make_set(&fresh);
    if (code != 0) {
        close(wake_fd);
        return code;
    }
    close(backend->epoll_fd);
    close(backend->wake_fd);
    *backend = fresh;
    return 0;
}

#endif
