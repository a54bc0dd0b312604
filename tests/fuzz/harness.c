/* harness.c -- libFuzzer around an embedded interpreter.
 *
 *   ASYNCFAST_FUZZ_PYTHON=.venv/bin/python ASYNCFAST_FUZZ_TARGET=NAME harness ...
 *
 * tests/fuzz/run.py builds and starts it. Each input is given to the function
 * that once.load(NAME) returns; one that raises is a crash. The executable
 * exports the runtimes of libFuzzer and of the sanitizers, to which the
 * extension, compiled with -fsanitize=fuzzer-no-link, tells what it runs.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static PyObject *target; /* owned for the life of the process */

static void
give_up(const char *what)
{
    PyErr_Print();
    fprintf(stderr, "harness: %s\n", what);
    abort();
}

static const char *
setting(const char *name)
{
    const char *value = getenv(name);
    if (value == NULL) {
        fprintf(stderr, "harness: %s is not set\n", name);
        exit(2);
    }
    return value;
}

static void
start_python(void)
{
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    /* libFuzzer's handlers tell of signals. */
    config.install_signal_handlers = 0;
    config.parse_argv = 0;
    /* The environment that this interpreter stands in is the one to use. */
    PyStatus status = PyConfig_SetBytesString(&config, &config.program_name,
                                              setting("ASYNCFAST_FUZZ_PYTHON"));
    if (!PyStatus_Exception(status)) {
        status = Py_InitializeFromConfig(&config);
    }
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        Py_ExitStatusException(status);
    }
    /* As the interpreter's own handlers would have it. */
    signal(SIGPIPE, SIG_IGN);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    start_python();
    PyObject *once = PyImport_ImportModule("once");
    if (once != NULL) {
        target = PyObject_CallMethod(once, "load", "s",
                                     setting("ASYNCFAST_FUZZ_TARGET"));
        Py_DECREF(once);
    }
    if (target == NULL) {
        give_up("no target");
    }
    return 0;
}

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    PyObject *result =
        PyObject_CallFunction(target, "y#", data, (Py_ssize_t)size);
    if (result == NULL) {
        give_up("the target raised");
    }
    Py_DECREF(result);
    return 0;
}
