/* error.c -- operating system and libuv errors as Python exceptions. */
#include "base/error.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <uv.h>

typedef struct {
    int uv;
    int eai;
} LookupCode;

/* libuv renumbers the resolver's codes; socket.gaierror carries the
 * resolver's own. */
static const LookupCode lookup_codes[] = {
#ifdef EAI_ADDRFAMILY
    {UV_EAI_ADDRFAMILY, EAI_ADDRFAMILY},
#endif
    {UV_EAI_AGAIN, EAI_AGAIN},
    {UV_EAI_BADFLAGS, EAI_BADFLAGS},
    {UV_EAI_FAIL, EAI_FAIL},
    {UV_EAI_FAMILY, EAI_FAMILY},
    {UV_EAI_MEMORY, EAI_MEMORY},
#if defined(EAI_NODATA) && EAI_NODATA != EAI_NONAME
    {UV_EAI_NODATA, EAI_NODATA},
#endif
    {UV_EAI_NONAME, EAI_NONAME},
    {UV_EAI_OVERFLOW, EAI_OVERFLOW},
    {UV_EAI_SERVICE, EAI_SERVICE},
    {UV_EAI_SOCKTYPE, EAI_SOCKTYPE},
};

PyObject *
af_error_from_errno(int code)
{
    errno = code;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *
lookup_error(AfState *state, int code)
{
    PyObject *args = Py_BuildValue("(is)", code, gai_strerror(code));
    if (args != NULL) {
        PyErr_SetObject(state->gaierror, args);
        Py_DECREF(args);
    }
    return NULL;
}

PyObject *
af_error_from_lookup(AfState *state, int status)
{
    size_t count = sizeof(lookup_codes) / sizeof(lookup_codes[0]);
    for (size_t i = 0; i < count; i++) {
        if (lookup_codes[i].uv == status) {
            return lookup_error(state, lookup_codes[i].eai);
        }
    }
    return af_error_from_errno(-status);
}

bool
af_error_leaves_loop(void)
{
    return PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)
           || PyErr_ExceptionMatches(PyExc_SystemExit);
}

const char *
af_error_type_name(PyObject *object)
{
    const char *name = Py_TYPE(object)->tp_name;
    const char *dot = strrchr(name, '.');
    return dot == NULL ? name : dot + 1;
}
