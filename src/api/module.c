/* module.c -- asyncfast._core: the order in which the rooms are set up. */
#include "api/loop_type.h"
#include "core/await.h"
#include "core/context.h"
#include "core/handle.h"
#include "core/layout.h"
#include "core/task.h"
#include "io/datagram.h"
#include "io/dns.h"
#include "io/feed.h"
#include "io/server.h"
#include "io/sock.h"
#include "io/stream.h"
#include "io/tls.h"
#include "io/watch.h"
#include "os/executor.h"
#include "os/fork.h"
#include "os/workers.h"

#include <uv.h>

/* What setup.py compiled with. */
#ifndef AF_BUILD_FLAGS
#define AF_BUILD_FLAGS "unknown"
#endif

#ifdef __clang__
#define AF_COMPILER __VERSION__
#else
#define AF_COMPILER "GCC " __VERSION__
#endif

static int
module_publish(PyObject *module, AfState *state)
{
    PyTypeObject *types[] = {
        state->Handle_type,          state->TimerHandle_type,
        state->SockOperation_type,   state->Transport_type,
        state->StreamTransport_type, state->DatagramTransport_type,
        state->Future_type,          state->Task_type};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (PyModule_AddType(module, types[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
module_exec(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    if (af_state_init(state) < 0 || af_context_init(state) < 0
        || af_handle_init_type(module) < 0 || af_timers_init_type(module) < 0
        || af_future_init_type(module) < 0 || af_await_init_type(module) < 0
        || af_task_init_type(module) < 0 || af_watch_init_type(module) < 0
        || af_sock_init_type(module) < 0 || af_transport_init_type(module) < 0
        || af_stream_init_type(module) < 0 || af_datagram_init_type(module) < 0
        || af_tls_init_type(module) < 0 || af_server_init_type(module) < 0
        || af_dns_init_type(module) < 0 || af_workers_init_type(module) < 0
        || af_executor_init_type(module) < 0 || af_loop_init_type(module) < 0) {
        return -1;
    }
    if (PyModule_AddStringConstant(module, "POLLER", af_backend_name()) < 0
        || PyModule_AddStringConstant(module, "COMPILER", AF_COMPILER) < 0
        || PyModule_AddStringConstant(module, "FLAGS", AF_BUILD_FLAGS) < 0) {
        return -1;
    }
    return module_publish(module, state);
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    AfState *state = PyModule_GetState(module);
    return state == NULL ? 0 : af_state_traverse(state, visit, arg);
}

static int
module_clear(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    if (state != NULL) {
        af_task_forget_all(state);
        af_state_clear(state);
    }
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

static PyObject *
module_libuv_version(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyUnicode_FromString(uv_version_string());
}

static PyObject *
module_before_fork(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    if (af_fork_before(PyModule_GetState(module)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
module_after_fork_in_child(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    AfState *state = PyModule_GetState(module);
    af_dns_forget_orphans(state);
    if (af_fork_after_in_child(state, af_dns_after_fork) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Take the OpenSSL of this file of the _ssl module. True if that can be. */
static PyObject *
module_load_openssl(PyObject *module, PyObject *path)
{
    AfState *state = PyModule_GetState(module);
    PyObject *encoded;
    if (!PyUnicode_FSConverter(path, &encoded)) {
        return NULL;
    }
    bool loaded = af_openssl_load(&state->openssl, PyBytes_AS_STRING(encoded));
    Py_DECREF(encoded);
    return PyBool_FromLong(loaded);
}

PyDoc_STRVAR(libuv_version_doc,
             "libuv_version($module, /)\n--\n\n"
             "The version of the libuv in use, like '1.44.2'.");

static PyMethodDef module_methods[] = {
    {"libuv_version", module_libuv_version, METH_NOARGS, libuv_version_doc},
    {"_adopt_streams", af_feed_adopt, METH_VARARGS, NULL},
    {"_adopt_tasks", af_layout_adopt, METH_VARARGS, NULL},
    {"_load_openssl", module_load_openssl, METH_O, NULL},
    {"_before_fork", module_before_fork, METH_NOARGS, NULL},
    {"_after_fork_in_child", module_after_fork_in_child, METH_NOARGS, NULL},
    {"_forget_task", af_task_forget, METH_O, NULL},
    {"_tasks", af_task_list, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    AF_MODULE_INTERPRETERS{0, NULL},
};

PyDoc_STRVAR(module_doc, "The C core of asyncfast.");

struct PyModuleDef af_module_def = {
    PyModuleDef_HEAD_INIT,         .m_name = "asyncfast._core",
    .m_doc = module_doc,           .m_size = sizeof(AfState),
    .m_methods = module_methods,   .m_slots = module_slots,
    .m_traverse = module_traverse, .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&af_module_def);
}
