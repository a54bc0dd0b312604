/* state.h -- module state: types, interned names, imported objects.
 *
 * Adding a type, a name or an import is one line in one of the lists below;
 * the field, its creation, its traverse and its clear follow from it.
 */
#ifndef AF_BASE_STATE_H
#define AF_BASE_STATE_H

#include "base/freelist.h"
#include "base/openssl.h"

/* Types of this extension, filled by each room's af_<noun>_init_type. */
#define AF_STATE_TYPES(X) \
    X(Loop)               \
    X(Handle)             \
    X(TimerHandle)        \
    X(FdWatch)            \
    X(SockOperation)      \
    X(Transport)          \
    X(StreamTransport)    \
    X(DatagramTransport)  \
    X(Listener)           \
    X(TlsProtocol)        \
    X(TlsTransport)       \
    X(Resolver)           \
    X(Future)             \
    X(FutureIter)         \
    X(Task)               \
    X(WorkQueue)          \
    X(Job)

/* Interned strings: state->str_<name>. */
#define AF_STATE_NAMES(X)       \
    X(_accept_tls)              \
    X(__qualname__)             \
    X(__self__)                 \
    X(_asyncio_future_blocking) \
    X(_attach)                  \
    X(_buffer)                  \
    X(_call_connection_lost)    \
    X(_callback)                \
    X(_call_eof_received)       \
    X(_cancelled)               \
    X(_check_callback)          \
    X(_check_thread)            \
    X(_control_app_writing)     \
    X(_control_ssl_reading)     \
    X(_detach)                  \
    X(_do_read__buffered)       \
    X(_do_read_slowly)          \
    X(_do_write)                \
    X(_eof)                     \
    X(_give_up)                 \
    X(_hire_one)                \
    X(_limit)                   \
    X(_loop)                    \
    X(_make_cancelled_error)    \
    X(_new_default_executor)    \
    X(_process_outgoing)        \
    X(_report_callback_error)   \
    X(_run)                     \
    X(_run_debug)               \
    X(_ssl_protocol)            \
    X(_start_shutdown)          \
    X(_stream_reader)           \
    X(_stream_reader_wr)        \
    X(_waiter)                  \
    X(_wakeup_waiter)           \
    X(_work_queue)              \
    X(_write_slowly)            \
    X(_writelines_slowly)       \
    X(accept)                   \
    X(add_done_callback)        \
    X(append)                   \
    X(buffer_updated)           \
    X(call_at)                  \
    X(call_exception_handler)   \
    X(call_soon)                \
    X(call_soon_threadsafe)     \
    X(cancel)                   \
    X(cancelled)                \
    X(close)                    \
    X(connection_lost)          \
    X(connection_made)          \
    X(context)                  \
    X(cr_code)                  \
    X(create_future)            \
    X(create_task)              \
    X(data_received)            \
    X(datagram_received)        \
    X(done)                     \
    X(eof_received)             \
    X(error_received)           \
    X(feed_data)                \
    X(family)                   \
    X(fileno)                   \
    X(func)                     \
    X(get_buffer)               \
    X(get_coro)                 \
    X(get_extra_info)           \
    X(get_loop)                 \
    X(get_protocol)             \
    X(getpeername)              \
    X(getsockname)              \
    X(gi_code)                  \
    X(gettimeout)               \
    X(is_closing)               \
    X(loop)                     \
    X(name)                     \
    X(pause_writing)            \
    X(peername)                 \
    X(pending)                  \
    X(proto)                    \
    X(protocol)                 \
    X(read)                     \
    X(recv_into)                \
    X(recvfrom)                 \
    X(recvfrom_into)            \
    X(result)                   \
    X(resume_writing)           \
    X(sendto)                   \
    X(set_exception)            \
    X(set_result)               \
    X(setblocking)              \
    X(socket)                   \
    X(sockname)                 \
    X(throw)                    \
    X(time)                     \
    X(transport)                \
    X(type)                     \
    X(write)

/* Objects of the standard library: X(field, module, attributes). */
#define AF_STATE_IMPORTS(X)                                                 \
    X(current_tasks, "asyncio.tasks", "_current_tasks")                     \
    X(base_create_task, "asyncio.base_events", "BaseEventLoop.create_task") \
    X(base_cancel, "asyncio.futures", "Future.cancel")                      \
    X(base_set_exception, "asyncio.futures", "Future.set_exception")        \
    X(base_set_result, "asyncio.futures", "Future.set_result")              \
    X(base_callbacks, "asyncio.futures", "Future._callbacks")               \
    X(base_result, "asyncio.futures", "Future.result")                      \
    X(base_remove_done_callback, "asyncio.futures",                         \
      "Future.remove_done_callback")                                        \
    X(all_tasks, "asyncio.tasks", "all_tasks")                              \
    X(AsyncioHandle, "asyncio.events", "Handle")                            \
    X(AsyncioTimerHandle, "asyncio.events", "TimerHandle")                  \
    X(AsyncioFuture, "asyncio.futures", "Future")                           \
    X(AsyncioTask, "asyncio.tasks", "Task")                                 \
    X(InvalidStateError, "asyncio.exceptions", "InvalidStateError")         \
    X(BufferedProtocol, "asyncio.protocols", "BufferedProtocol")            \
    X(CancelledError, "asyncio.exceptions", "CancelledError")               \
    X(AsyncioDatagram, "asyncio.transports", "DatagramTransport")           \
    X(Socket, "socket", "socket")                                           \
    X(SendfileMode, "asyncio.constants", "_SendfileMode")                   \
    X(FlowControlMixin, "asyncio.transports", "_FlowControlMixin")          \
    X(TransportSocket, "asyncio.trsock", "TransportSocket")                 \
    X(check_ssl_socket, "asyncio.base_events", "_check_ssl_socket")         \
    X(extract_stack, "asyncio.format_helpers", "extract_stack")             \
    X(gaierror, "socket", "gaierror")                                       \
    X(logger, "asyncio.log", "logger")                                      \
    X(QueueEmpty, "queue", "Empty")                                         \
    X(base_run_in_executor, "asyncio.base_events",                          \
      "BaseEventLoop.run_in_executor")                                      \
    X(partial, "functools", "partial")                                      \
    X(convert_exception, "asyncio.futures", "_convert_future_exc")

typedef struct AfState {
#define FIELD(name) PyTypeObject *name##_type; /* owned */
    AF_STATE_TYPES(FIELD)
#undef FIELD
#define FIELD(name) PyObject *str_##name; /* owned */
    AF_STATE_NAMES(FIELD)
#undef FIELD
#define FIELD(name, module, attribute) PyObject *name; /* owned */
    AF_STATE_IMPORTS(FIELD)
#undef FIELD
    PyObject *empty_tuple;     /* owned */
    PyObject *kwnames_loop;    /* owned; ("loop",) */
    PyObject *kwnames_fileno;  /* owned; ("fileno",) */
    PyObject *kwnames_context; /* owned; ("context",) */
    PyObject *stop_iteration;  /* owned; see core/await.c */
    PyObject *no_vars;         /* owned; the variables of an empty Context */
    PyTypeObject *vars_type; /* borrowed: static; NULL where a Context's layout
                                isn't known */
    PyTypeObject *StepWrapper;  /* owned; the private callable by which a stock
                                  Task schedules its step */
    PyMethodDef *stock_wakeup;  /* borrowed: static in _asyncio */
    PyTypeObject *loop_class;   /* owned; the class of the loop made last */
    PyTypeObject *StreamReader; /* owned; NULL where asyncio's code feeds it */
    PyTypeObject *ReaderProtocol; /* owned; NULL likewise */
    PyObject *feed_data;       /* owned; methods of these two, see io/feed.h */
    PyObject *wakeup_waiter;   /* owned */
    PyObject *reader_received; /* owned */
    PyObject *reader_property; /* owned */
    unsigned int reader_tag;   /* of the classes when last looked at */
    unsigned int protocol_tag;
    PyObject *orphans;   /* owned; resolvers of closed loops, see io/dns.c */
    bool own_tasks;      /* loops make our Task and Future; see core/task.c */
    uint64_t task_count; /* the number in the last automatic name */
    pid_t lookup_pid;    /* the process that is known to be able to look up */
    struct AfOwnTask *first_task; /* borrowed: a task unlinks itself */
    struct AfLoop
        *first_loop; /* borrowed: a loop unlinks itself when it dies */
    AfOpenssl openssl;
    AfFreelist handles;
    AfFreelist timers;
    AfFreelist futures;
    AfFreelist tasks;
    AfFreelist awaits;
} AfState;

/* The module's definition, to look it up from a type. */
extern struct PyModuleDef af_module_def;

/* The state of the module whose type `self` is an instance of, directly or
 * through a subclass. */
AfState *af_state_of(PyObject *self);

/* The state of the module that made the final type of `self`, which is being
 * destroyed; NULL, without an exception, if the collector took the module
 * first. */
AfState *af_state_of_dying(PyObject *self);

/* Create names and imports. 0, or -1 with an exception. */
int af_state_init(AfState *state);
int af_state_traverse(AfState *state, visitproc visit, void *arg);
void af_state_clear(AfState *state);

/* Make a heap type and store it in `slot`; `base` may be NULL.
 * 0, or -1 with an exception. */
int af_state_add_type(PyObject *module, PyTypeObject **slot, PyType_Spec *spec,
                      PyObject *base);

/* Refuse a class of the standard library whose slot `name` isn't at `offset`:
 * our subtypes use those slots. 0, or -1 with ImportError. */
int af_state_check_slot(PyObject *type, const char *name, Py_ssize_t offset);

#endif
