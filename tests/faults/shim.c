/* shim.c -- makes chosen calls of a process fail: loaded before the C library.
 *
 * A call is counted, and may fail, while a plan is armed: in the thread that armed
 * it, or in all of them. The nth call of the plan's kind that comes then does not
 * reach the C library and fails with the plan's error, or reaches it and fails all
 * the same, or is cut to one byte, or one message.
 *
 * Beside the calls of the system those of the Python allocator can fail, once it is
 * hooked. Controlled by the functions at the end, from Python by ctypes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
#define CALLER __builtin_return_address(0)

/* Beside an errno value: reach the C library first; let only one byte through. */
enum { AFTER = 1 << 16, SHORT = 1 << 17 };

#define CALLS(X)      \
    X(accept)         \
    X(accept4)        \
    X(allocation)     \
    X(bind)           \
    X(close)          \
    X(connect)        \
    X(epoll_create1)  \
    X(epoll_ctl)      \
    X(epoll_wait)     \
    X(eventfd)        \
    X(fcntl)          \
    X(getaddrinfo)    \
    X(getnameinfo)    \
    X(getpeername)    \
    X(getsockname)    \
    X(getsockopt)     \
    X(ioctl)          \
    X(listen)         \
    X(malloc)         \
    X(pidfd_open)     \
    X(pipe2)          \
    X(pthread_create) \
    X(read)           \
    X(recv)           \
    X(recvfrom)       \
    X(recvmmsg)       \
    X(recvmsg)        \
    X(send)           \
    X(sendfile)       \
    X(sendmmsg)       \
    X(sendmsg)        \
    X(sendto)         \
    X(setsockopt)     \
    X(shutdown)       \
    X(socket)         \
    X(socketpair)     \
    X(write)          \
    X(writev)

#define AS_NUMBER(name) CALL_##name,
#define AS_TEXT(name) #name,
typedef enum { CALLS(AS_NUMBER) CALL_COUNT } Call;
static const char *const names[] = {CALLS(AS_TEXT)};

/* What is armed. Written only while nothing is. */
static struct {
    int call;
    int code;
    long first;
    long times;
    bool everywhere;
} plan = {.call = -1};

enum { MAX_RANGES = 64, MAX_FD = 1 << 16 };

/* Where the code of the libraries is whose calls count; none for all. */
static struct {
    uintptr_t from, until;
} ranges[MAX_RANGES];
static int range_count;
static const char *wanted_library;
static bool spared_libraries;

static unsigned char spared[MAX_FD];
static atomic_long seen[CALL_COUNT];
static atomic_long fired;
static atomic_bool armed;
/* Where the loader put it: to find it must take no memory. */
static _Thread_local bool armed_here __attribute__((tls_model("initial-exec")));

static bool
from_wanted(const void *caller)
{
    if (range_count == 0) {
        return !(wanted_library != NULL && !spared_libraries);
    }
    uintptr_t at = (uintptr_t)caller;
    for (int i = 0; i < range_count; i++) {
        if (at >= ranges[i].from && at < ranges[i].until) {
            return !spared_libraries;
        }
    }
    return spared_libraries;
}

static bool
is_blocking(int fd)
{
    static int (*real)(int, int, ...);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "fcntl");
    }
    int kept = errno;
    int mode = real(fd, F_GETFL);
    errno = kept;
    return mode < 0 || !(mode & O_NONBLOCK);
}

/* Where the last fault was made. */
static void *made_at[64];
static int made_depth;

/* What this call has to fail with; 0 if it has not. */
static int
fault_due(Call call, int fd, const void *caller)
{
    if (!atomic_load_explicit(&armed, memory_order_relaxed)
        || !(armed_here || plan.everywhere)) {
        return 0;
    }
    if ((fd >= 0 && fd < MAX_FD && spared[fd]) || !from_wanted(caller)) {
        return 0;
    }
    /* Only what does not block may find nothing there. */
    if (plan.call == (int)call && plan.code == EAGAIN && fd >= 0
        && is_blocking(fd)) {
        return 0;
    }
    long number = atomic_fetch_add(&seen[call], 1) + 1;
    if (plan.call != (int)call || number < plan.first
        || number >= plan.first + plan.times) {
        return 0;
    }
    if (atomic_fetch_add(&fired, 1) == 0) {
        made_depth = backtrace(made_at, 64);
    }
    return plan.code;
}

static void *
next(void **kept, const char *name)
{
    if (*kept == NULL) {
        *kept = dlsym(RTLD_NEXT, name);
    }
    return *kept;
}

/* The function of the C library that the enclosing one stands before. */
#define REAL(name)     \
    static void *kept; \
    __typeof__(&name) real = (__typeof__(&name))next(&kept, #name)

static int
fail_with(int code)
{
    errno = code & ~AFTER;
    return -1;
}

/* -- Calls that only fail -------------------------------------------------------- */

#define WRAP(name, fd, parameters, arguments)          \
    PUBLIC int name parameters                         \
    {                                                  \
        REAL(name);                                    \
        int code = fault_due(CALL_##name, fd, CALLER); \
        if (code == 0) {                               \
            return real arguments;                     \
        }                                              \
        if (code & AFTER) {                            \
            (void)real arguments;                      \
        }                                              \
        return fail_with(code);                        \
    }

WRAP(accept, fd, (int fd, struct sockaddr *name, socklen_t *size),
     (fd, name, size))
WRAP(accept4, fd, (int fd, struct sockaddr *name, socklen_t *size, int flags),
     (fd, name, size, flags))
WRAP(bind, fd, (int fd, const struct sockaddr *name, socklen_t size),
     (fd, name, size))
WRAP(close, fd, (int fd), (fd))
WRAP(connect, fd, (int fd, const struct sockaddr *name, socklen_t size),
     (fd, name, size))
WRAP(epoll_create1, -1, (int flags), (flags))
WRAP(epoll_wait, set, (int set, struct epoll_event *events, int most, int wait),
     (set, events, most, wait))
WRAP(eventfd, -1, (unsigned int start, int flags), (start, flags))
WRAP(getpeername, fd, (int fd, struct sockaddr *name, socklen_t *size),
     (fd, name, size))
WRAP(getsockname, fd, (int fd, struct sockaddr *name, socklen_t *size),
     (fd, name, size))
WRAP(getsockopt, fd,
     (int fd, int level, int name, void *value, socklen_t *size),
     (fd, level, name, value, size))
WRAP(listen, fd, (int fd, int backlog), (fd, backlog))
WRAP(pipe2, -1, (int fds[2], int flags), (fds, flags))
WRAP(setsockopt, fd,
     (int fd, int level, int name, const void *value, socklen_t size),
     (fd, level, name, value, size))
WRAP(shutdown, fd, (int fd, int how), (fd, how))
WRAP(socket, -1, (int family, int type, int protocol), (family, type, protocol))
WRAP(socketpair, -1, (int family, int type, int protocol, int fds[2]),
     (family, type, protocol, fds))

/* Only to take a descriptor in needs memory. */
PUBLIC int
epoll_ctl(int set, int operation, int fd, struct epoll_event *event)
{
    REAL(epoll_ctl);
    int code =
        operation == EPOLL_CTL_ADD ? fault_due(CALL_epoll_ctl, fd, CALLER) : 0;
    return code ? fail_with(code) : real(set, operation, fd, event);
}

#define WRAP_VARIADIC(name, shown, request)                          \
    PUBLIC int name(int fd, request command, ...)                    \
    {                                                                \
        static void *kept;                                           \
        int (*real)(int, request, ...);                              \
        *(void **)&real = next(&kept, #name);                        \
        va_list rest;                                                \
        va_start(rest, command);                                     \
        void *argument = va_arg(rest, void *);                       \
        va_end(rest);                                                \
        int code = fault_due(CALL_##shown, fd, CALLER);              \
        return code ? fail_with(code) : real(fd, command, argument); \
    }

WRAP_VARIADIC(fcntl, fcntl, int)
WRAP_VARIADIC(fcntl64, fcntl, int)
WRAP_VARIADIC(ioctl, ioctl, unsigned long)

PUBLIC long
syscall(long number, ...)
{
    static void *kept;
    long (*real)(long, ...);
    *(void **)&real = next(&kept, "syscall");
    long given[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++) {
        given[i] = va_arg(rest, long);
    }
    va_end(rest);
#ifdef SYS_pidfd_open
    int code =
        number == SYS_pidfd_open ? fault_due(CALL_pidfd_open, -1, CALLER) : 0;
    if (code) {
        return fail_with(code);
    }
#endif
    return real(number, given[0], given[1], given[2], given[3], given[4],
                given[5]);
}

/* These return their error. */

PUBLIC int
pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
               void *(*run)(void *), void *argument)
{
    REAL(pthread_create);
    int code = fault_due(CALL_pthread_create, -1, CALLER);
    return code ? code : real(thread, attributes, run, argument);
}

PUBLIC int
getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
            struct addrinfo **found)
{
    REAL(getaddrinfo);
    int code = fault_due(CALL_getaddrinfo, -1, CALLER);
    return code ? code : real(host, service, hints, found);
}

PUBLIC int
getnameinfo(const struct sockaddr *name, socklen_t size, char *host,
            socklen_t host_size, char *service, socklen_t service_size,
            int flags)
{
    REAL(getnameinfo);
    int code = fault_due(CALL_getnameinfo, -1, CALLER);
    return code ? code
                : real(name, size, host, host_size, service, service_size,
                       flags);
}

/* -- Calls that may also do less than they were asked for ------------------------ */

static bool
is_stream(int fd)
{
    int type = SOCK_STREAM;
    socklen_t size = sizeof(type);
    static void *kept;
    int (*real)(int, int, int, void *, socklen_t *);
    *(void **)&real = next(&kept, "getsockopt");
    int before = errno;
    (void)real(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    errno = before;
    return type == SOCK_STREAM;
}

#define WRAP_SIZED(name, parameters, arguments)           \
    PUBLIC ssize_t name parameters                        \
    {                                                     \
        REAL(name);                                       \
        int code = fault_due(CALL_##name, fd, CALLER);    \
        if (code == SHORT && size > 1 && is_stream(fd)) { \
            size = 1;                                     \
        }                                                 \
        else if (code != 0 && code != SHORT) {            \
            return fail_with(code);                       \
        }                                                 \
        return real arguments;                            \
    }

WRAP_SIZED(read, (int fd, void *data, size_t size), (fd, data, size))
WRAP_SIZED(recv, (int fd, void *data, size_t size, int flags),
           (fd, data, size, flags))
WRAP_SIZED(recvfrom,
           (int fd, void *restrict data, size_t size, int flags,
            struct sockaddr *restrict name, socklen_t *restrict length),
           (fd, data, size, flags, name, length))
WRAP_SIZED(send, (int fd, const void *data, size_t size, int flags),
           (fd, data, size, flags))
WRAP_SIZED(sendto,
           (int fd, const void *data, size_t size, int flags,
            const struct sockaddr *name, socklen_t length),
           (fd, data, size, flags, name, length))
WRAP_SIZED(write, (int fd, const void *data, size_t size), (fd, data, size))

/* The first byte that there is. */
static struct iovec
first_byte(const struct iovec *vector, size_t count)
{
    struct iovec first = {0};
    for (size_t i = 0; i < count && first.iov_len == 0; i++) {
        first = vector[i];
    }
    first.iov_len = first.iov_len > 0;
    return first;
}

PUBLIC ssize_t
writev(int fd, const struct iovec *vector, int count)
{
    REAL(writev);
    int code = fault_due(CALL_writev, fd, CALLER);
    if (code == SHORT) {
        struct iovec first = first_byte(vector, (size_t)count);
        return real(fd, &first, 1);
    }
    return code ? fail_with(code) : real(fd, vector, count);
}

PUBLIC ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg);
    int code = fault_due(CALL_sendmsg, fd, CALLER);
    if (code == SHORT && is_stream(fd)) {
        struct iovec first = first_byte(message->msg_iov, message->msg_iovlen);
        struct msghdr cut = *message;
        cut.msg_iov = &first;
        cut.msg_iovlen = 1;
        return real(fd, &cut, flags);
    }
    return code && code != SHORT ? fail_with(code) : real(fd, message, flags);
}

PUBLIC ssize_t
recvmsg(int fd, struct msghdr *message, int flags)
{
    REAL(recvmsg);
    int code = fault_due(CALL_recvmsg, fd, CALLER);
    return code && code != SHORT ? fail_with(code) : real(fd, message, flags);
}

PUBLIC int
sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
    REAL(sendmmsg);
    int code = fault_due(CALL_sendmmsg, fd, CALLER);
    if (code && code != SHORT) {
        return fail_with(code);
    }
    return real(fd, messages, code == SHORT ? 1 : count, flags);
}

PUBLIC int
recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags,
         struct timespec *limit)
{
    REAL(recvmmsg);
    int code = fault_due(CALL_recvmmsg, fd, CALLER);
    if (code && code != SHORT) {
        return fail_with(code);
    }
    return real(fd, messages, code == SHORT ? 1 : count, flags, limit);
}

#define WRAP_SENDFILE(name, offset)                                \
    PUBLIC ssize_t name(int fd, int file, offset *at, size_t size) \
    {                                                              \
        REAL(name);                                                \
        int code = fault_due(CALL_sendfile, fd, CALLER);           \
        if (code && code != SHORT) {                               \
            return fail_with(code);                                \
        }                                                          \
        return real(fd, file, at, code == SHORT ? 1 : size);       \
    }

WRAP_SENDFILE(sendfile, off_t)
WRAP_SENDFILE(sendfile64, off64_t)

/* -- Memory ---------------------------------------------------------------------- */

/* glibc's own names: to look the others up takes memory. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

#define MEMORY_FAILS (fault_due(CALL_malloc, -1, CALLER) != 0)

static void *
no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

PUBLIC void *
malloc(size_t size)
{
    return MEMORY_FAILS ? no_memory() : __libc_malloc(size);
}

PUBLIC void *
calloc(size_t count, size_t size)
{
    return MEMORY_FAILS ? no_memory() : __libc_calloc(count, size);
}

PUBLIC void *
realloc(void *memory, size_t size)
{
    return MEMORY_FAILS ? no_memory() : __libc_realloc(memory, size);
}

/* PyMemAllocatorEx, which has not changed since CPython 3.5. */
typedef struct {
    void *ctx;
    void *(*malloc)(void *, size_t);
    void *(*calloc)(void *, size_t, size_t);
    void *(*realloc)(void *, void *, size_t);
    void (*free)(void *, void *);
} Allocator;

enum { DOMAINS = 3 };
static Allocator before[DOMAINS];

#define ALLOCATION_FAILS (fault_due(CALL_allocation, -1, NULL) != 0)

static void *
hook_malloc(void *ctx, size_t size)
{
    const Allocator *inner = ctx;
    return ALLOCATION_FAILS ? NULL : inner->malloc(inner->ctx, size);
}

static void *
hook_calloc(void *ctx, size_t count, size_t size)
{
    const Allocator *inner = ctx;
    return ALLOCATION_FAILS ? NULL : inner->calloc(inner->ctx, count, size);
}

static void *
hook_realloc(void *ctx, void *memory, size_t size)
{
    const Allocator *inner = ctx;
    return ALLOCATION_FAILS ? NULL : inner->realloc(inner->ctx, memory, size);
}

static void
hook_free(void *ctx, void *memory)
{
    const Allocator *inner = ctx;
    inner->free(inner->ctx, memory);
}

/* -- Control --------------------------------------------------------------------- */

static int
call_number(const char *name)
{
    for (int i = 0; i < CALL_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

static int
add_ranges(struct dl_phdr_info *object, size_t size, void *unused)
{
    (void)size;
    (void)unused;
    if (strstr(object->dlpi_name, wanted_library) == NULL) {
        return 0;
    }
    for (int i = 0; i < object->dlpi_phnum && range_count < MAX_RANGES; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && part->p_flags & PF_X) {
            uintptr_t from = object->dlpi_addr + part->p_vaddr;
            ranges[range_count].from = from;
            ranges[range_count++].until = from + part->p_memsz;
        }
    }
    return 0;
}

/* Only what libraries whose path has this in it call counts, or with a minus
 * before it all but that; NULL: everything. */
PUBLIC void
fault_from(const char *library)
{
    range_count = 0;
    wanted_library = library;
    spared_libraries = false;
    if (library != NULL) {
        spared_libraries = library[0] == '-';
        wanted_library = library + spared_libraries;
        dl_iterate_phdr(add_ranges, NULL);
    }
}

/* Count from now on, in this thread or in all; let the calls of that name fail from
 * the nth on, so many times. NULL only counts. 0, or -1 for no such name. */
PUBLIC int
fault_arm(const char *name, int code, long nth, long times, int everywhere)
{
    int call = name == NULL ? -1 : call_number(name);
    if (name != NULL && call < 0) {
        return -1;
    }
    plan.call = call;
    plan.code = code;
    plan.first = nth;
    plan.times = times;
    plan.everywhere = everywhere;
    for (int i = 0; i < CALL_COUNT; i++) {
        atomic_store(&seen[i], 0);
    }
    atomic_store(&fired, 0);
    armed_here = true;
    atomic_store(&armed, true);
    return 0;
}

/* Returns how many calls failed. */
PUBLIC long
fault_disarm(void)
{
    atomic_store(&armed, false);
    armed_here = false;
    return atomic_load(&fired);
}

/* How many calls of that name there were while it was armed last; -1: no such. */
PUBLIC long
fault_count(const char *name)
{
    int call = call_number(name);
    return call < 0 ? -1 : atomic_load(&seen[call]);
}

/* Never fail, never count the calls on this descriptor, or do so again. */
PUBLIC void
fault_spare(int fd, int on)
{
    if (fd >= 0 && fd < MAX_FD) {
        spared[fd] = on != 0;
    }
}

/* Was the call of the first fault made by a library with this in its path, itself
 * or through C, and not by Python code? */
PUBLIC int
fault_made_by(const char *library)
{
    for (int i = 0; i < made_depth; i++) {
        Dl_info where;
        if (!dladdr(made_at[i], &where)) {
            continue;
        }
        if (where.dli_fname != NULL
            && strstr(where.dli_fname, library) != NULL) {
            return 1;
        }
        if (where.dli_sname != NULL
            && strstr(where.dli_sname, "_PyEval_EvalFrame") != NULL) {
            return 0;
        }
    }
    return 0;
}

/* Put ourselves before the allocators of Python. 0, or -1 if this is none. */
PUBLIC int
fault_hook_python(void)
{
    void (*get)(int, Allocator *);
    void (*set)(int, Allocator *);
    *(void **)&get = dlsym(RTLD_DEFAULT, "PyMem_GetAllocator");
    *(void **)&set = dlsym(RTLD_DEFAULT, "PyMem_SetAllocator");
    if (get == NULL || set == NULL) {
        return -1;
    }
    for (int domain = 0; domain < DOMAINS; domain++) {
        get(domain, &before[domain]);
        Allocator hook = {&before[domain], hook_malloc, hook_calloc,
                          hook_realloc, hook_free};
        set(domain, &hook);
    }
    return 0;
}

static void
on_crash(int number)
{
    static void *frames[64];
    int count = backtrace(frames, 64);
    backtrace_symbols_fd(frames, count, STDERR_FILENO);
    signal(number, SIG_DFL);
    raise(number);
}

/* Print the frames of C when the process crashes. */
PUBLIC void
fault_trace_crashes(void)
{
    void *frame[1];
    (void)backtrace(frame, 1); /* loads what it needs */
    signal(SIGSEGV, on_crash);
    signal(SIGABRT, on_crash);
    signal(SIGBUS, on_crash);
}
