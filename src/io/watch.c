/* watch.c -- add_reader and add_writer: one watched descriptor of the user.
 *
 * Ownership: the poller holds an FdWatch while one of its sides is set, and
 * nothing else does; so it dies when both are withdrawn.
 */
#include "io/watch.h"

#include <limits.h>

#include "core/handle.h"

/* What stands by for one direction. */
typedef struct {
    AfFire fire;
    PyObject *item; /* owned; NULL if the direction isn't watched */
    PyObject *file; /* owned; kept alive, as the selectors module does */
} Side;

typedef struct {
    PyObject_HEAD
    AfLoop *loop; /* borrowed: its poller holds this object */
    AfWatch watch;
    Side reader;
    Side writer;
} FdWatch;

static int
side_traverse(Side *side, visitproc visit, void *arg)
{
    Py_VISIT(side->item);
    Py_VISIT(side->file);
    return 0;
}

static void
side_clear(Side *side)
{
    Py_CLEAR(side->item);
    Py_CLEAR(side->file);
}

static int
watch_traverse(PyObject *self, visitproc visit, void *arg)
{
    FdWatch *watch = (FdWatch *)self;
    Py_VISIT(Py_TYPE(self));
    int err = side_traverse(&watch->reader, visit, arg);
    return err ? err : side_traverse(&watch->writer, visit, arg);
}

static int
watch_clear(PyObject *self)
{
    FdWatch *watch = (FdWatch *)self;
    side_clear(&watch->reader);
    side_clear(&watch->writer);
    return 0;
}

static void
watch_dealloc(PyObject *self)
{
    FdWatch *watch = (FdWatch *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (watch->watch.fd >= 0) {
        af_poll_release(&watch->loop->poll, &watch->watch);
    }
    watch_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static int
side_fire(AfLoop *loop, Side *side)
{
    if (side->item == NULL) {
        return 0;
    }
    PyObject *item = Py_NewRef(side->item);
    int err = side->fire(loop, item);
    Py_DECREF(item);
    return err;
}

static int
on_ready(AfWatch *base, int events)
{
    FdWatch *self = (FdWatch *)Py_NewRef(base->owner);
    AfLoop *loop = self->loop;
    int err = events & AF_READ ? side_fire(loop, &self->reader) : 0;
    if (err == 0 && events & AF_WRITE) {
        err = side_fire(loop, &self->writer);
    }
    Py_DECREF(self);
    return err;
}

static FdWatch *
watch_find(AfLoop *loop, int fd)
{
    AfWatch *base = af_poll_find(&loop->poll, fd);
    return base != NULL && base->on_ready == on_ready ? (FdWatch *)base->owner
                                                      : NULL;
}

/* A new reference. */
static FdWatch *
watch_new(AfLoop *loop, int fd)
{
    PyTypeObject *type = loop->state->FdWatch_type;
    FdWatch *self = (FdWatch *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->loop = loop;
    self->watch.owner = (PyObject *)self;
    self->watch.on_ready = on_ready;
    self->watch.fd = -1;
    if (af_poll_claim(&loop->poll, &self->watch, fd) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

static Side *
watch_side(FdWatch *self, int event)
{
    return event == AF_READ ? &self->reader : &self->writer;
}

static int
handle_fire(AfLoop *loop, PyObject *item)
{
    return af_loop_push(loop, af_handle_run, Py_NewRef(item));
}

/* A handle that is replaced or removed must not run, even if it is ready. */
static void
side_retire(AfLoop *loop, Side *side)
{
    Side old = *side;
    side->item = side->file = NULL;
    if (old.item != NULL && old.fire == handle_fire
        && af_handle_cancel(loop->state, (AfHandle *)old.item) < 0) {
        PyErr_WriteUnraisable(old.item);
    }
    side_clear(&old);
}

int
af_watch_set(AfLoop *loop, int fd, int event, AfFire fire, PyObject *item,
             PyObject *file)
{
    FdWatch *self = watch_find(loop, fd);
    self = self == NULL ? watch_new(loop, fd)
                        : (FdWatch *)Py_NewRef((PyObject *)self);
    if (self == NULL) {
        return -1;
    }
    int err =
        af_poll_want(&loop->poll, &self->watch, self->watch.wanted | event);
    if (err == 0) {
        Side *side = watch_side(self, event);
        Side former = *side;
        side->fire = fire;
        side->item = Py_NewRef(item);
        side->file = Py_NewRef(file);
        side_retire(loop, &former);
    }
    Py_DECREF(self);
    return err;
}

bool
af_watch_unset(AfLoop *loop, int fd, int event, PyObject *item)
{
    FdWatch *self = watch_find(loop, fd);
    if (self == NULL) {
        return false;
    }
    Side *side = watch_side(self, event);
    if (side->item == NULL || (item != NULL && side->item != item)) {
        return false;
    }
    Py_INCREF(self);
    (void)af_poll_want(&loop->poll, &self->watch, self->watch.wanted & ~event);
    side_retire(loop, side);
    Py_DECREF(self);
    return true;
}

bool
af_watch_is_set(AfLoop *loop, int fd, int event, PyObject *item)
{
    FdWatch *self = watch_find(loop, fd);
    return self != NULL && watch_side(self, event)->item == item;
}

static int
fileno_from_int(PyObject *number)
{
    int overflow;
    long fd = PyLong_AsLongAndOverflow(number, &overflow);
    if (fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (overflow < 0 || (overflow == 0 && fd < 0)) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", number);
        return -1;
    }
    if (overflow || fd > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError,
                        "Python int too large to convert to C int");
        return -1;
    }
    return (int)fd;
}

static PyObject *
fileno_number(PyObject *file)
{
    PyObject *result = PyObject_CallMethod(file, "fileno", NULL);
    PyObject *number = result == NULL ? NULL : PyNumber_Long(result);
    Py_XDECREF(result);
    if (number == NULL
        && (PyErr_ExceptionMatches(PyExc_AttributeError)
            || PyErr_ExceptionMatches(PyExc_TypeError)
            || PyErr_ExceptionMatches(PyExc_ValueError))) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "Invalid file object: %R", file);
    }
    return number;
}

int
af_watch_fileno(PyObject *file)
{
    if (PyLong_Check(file)) {
        return fileno_from_int(file);
    }
    PyObject *number = fileno_number(file);
    if (number == NULL) {
        return -1;
    }
    int fd = fileno_from_int(number);
    Py_DECREF(number);
    return fd;
}

/* The descriptor under which `file`, closed meanwhile, is still watched;
 * leaves the exception alone if there is none. */
static int
watch_find_closed(AfLoop *loop, PyObject *file)
{
    for (int fd = 0; fd < loop->poll.capacity; fd++) {
        FdWatch *self = watch_find(loop, fd);
        if (self != NULL
            && (self->reader.file == file || self->writer.file == file)) {
            PyErr_Clear();
            return fd;
        }
    }
    return -1;
}

static int
watch_fileno_or_closed(AfLoop *loop, PyObject *file)
{
    int fd = af_watch_fileno(file);
    if (fd < 0 && PyErr_ExceptionMatches(PyExc_ValueError)) {
        return watch_find_closed(loop, file);
    }
    return fd;
}

static int
transport_is_closing(AfLoop *loop, PyObject *transport)
{
    PyObject *result =
        PyObject_CallMethodNoArgs(transport, loop->state->str_is_closing);
    if (result == NULL) {
        return -1;
    }
    int closing = PyObject_IsTrue(result);
    Py_DECREF(result);
    return closing;
}

int
af_watch_check_free(AfLoop *loop, PyObject *file, int fd)
{
    AfWatch *base = af_poll_find(&loop->poll, fd);
    if (base == NULL || base->on_ready == on_ready) {
        return 0;
    }
    PyObject *transport = Py_NewRef(base->owner);
    int closing = transport_is_closing(loop, transport);
    bool free = closing > 0 && !base->wanted;
    if (closing >= 0 && !free) {
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %R is used by transport %R", file,
                     transport);
    }
    Py_DECREF(transport);
    return free ? 0 : -1;
}

static PyObject *
watch_add(AfLoop *loop, int fd, int event, PyObject *const *args,
          Py_ssize_t nargs)
{
    PyObject *packed = af_handle_pack(loop->state, args + 2, nargs - 2);
    if (packed == NULL) {
        return NULL;
    }
    PyObject *handle = af_handle_new_lasting(loop, args[1], packed);
    if (handle != NULL
        && af_watch_set(loop, fd, event, handle_fire, handle, args[0]) < 0) {
        Py_CLEAR(handle);
    }
    return handle;
}

static int
watch_check_add(AfLoop *loop, const char *name, Py_ssize_t nargs)
{
    if (nargs < 2) {
        PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'",
                     name, nargs == 0 ? "fd" : "callback");
        return -1;
    }
    return af_loop_check_closed(loop);
}

static PyObject *
watch_add_checked(PyObject *self, const char *name, int event,
                  PyObject *const *args, Py_ssize_t nargs)
{
    AfLoop *loop = (AfLoop *)self;
    if (watch_check_add(loop, name, nargs) < 0) {
        return NULL;
    }
    int fd = af_watch_fileno(args[0]);
    if (fd < 0 || af_watch_check_free(loop, args[0], fd) < 0) {
        return NULL;
    }
    PyObject *handle = watch_add(loop, fd, event, args, nargs);
    if (handle == NULL) {
        return NULL;
    }
    Py_DECREF(handle);
    Py_RETURN_NONE;
}

static PyObject *
watch_remove(PyObject *self, int event, PyObject *file, bool checked)
{
    AfLoop *loop = (AfLoop *)self;
    int fd = watch_fileno_or_closed(loop, file);
    if (fd < 0 && PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
        Py_RETURN_FALSE; /* no descriptor at all, so none that is watched */
    }
    if (fd < 0 || (checked && af_watch_check_free(loop, file, fd) < 0)) {
        return NULL;
    }
    return PyBool_FromLong(af_watch_unset(loop, fd, event, NULL));
}

PyObject *
af_watch_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return watch_add_checked(self, "add_reader", AF_READ, args, nargs);
}

PyObject *
af_watch_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return watch_add_checked(self, "add_writer", AF_WRITE, args, nargs);
}

PyObject *
af_watch_remove_reader(PyObject *self, PyObject *file)
{
    return watch_remove(self, AF_READ, file, true);
}

PyObject *
af_watch_remove_writer(PyObject *self, PyObject *file)
{
    return watch_remove(self, AF_WRITE, file, true);
}

static PyObject *
watch_add_unchecked(PyObject *self, const char *name, int event,
                    PyObject *const *args, Py_ssize_t nargs)
{
    AfLoop *loop = (AfLoop *)self;
    if (watch_check_add(loop, name, nargs) < 0) {
        return NULL;
    }
    int fd = af_watch_fileno(args[0]);
    return fd < 0 ? NULL : watch_add(loop, fd, event, args, nargs);
}

PyObject *
af_watch_add_reader_unchecked(PyObject *self, PyObject *const *args,
                              Py_ssize_t nargs)
{
    return watch_add_unchecked(self, "_add_reader", AF_READ, args, nargs);
}

PyObject *
af_watch_add_writer_unchecked(PyObject *self, PyObject *const *args,
                              Py_ssize_t nargs)
{
    return watch_add_unchecked(self, "_add_writer", AF_WRITE, args, nargs);
}

PyObject *
af_watch_remove_reader_unchecked(PyObject *self, PyObject *file)
{
    return watch_remove(self, AF_READ, file, false);
}

PyObject *
af_watch_remove_writer_unchecked(PyObject *self, PyObject *file)
{
    return watch_remove(self, AF_WRITE, file, false);
}

PyObject *
af_watch_events(PyObject *self, PyObject *file)
{
    int fd = af_watch_fileno(file);
    if (fd < 0) {
        return NULL;
    }
    AfWatch *base = af_poll_find(&((AfLoop *)self)->poll, fd);
    return PyLong_FromLong(base == NULL ? 0 : base->wanted);
}

PyObject *
af_watch_ensure_free(PyObject *self, PyObject *file)
{
    int fd = af_watch_fileno(file);
    if (fd < 0 || af_watch_check_free((AfLoop *)self, file, fd) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyType_Slot watch_slots[] = {
    {Py_tp_dealloc, watch_dealloc},
    {Py_tp_traverse, watch_traverse},
    {Py_tp_clear, watch_clear},
    {0, NULL},
};

static PyType_Spec watch_spec = {
    .name = "asyncfast._core._FdWatch",
    .basicsize = sizeof(FdWatch),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = watch_slots,
};

int
af_watch_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    return af_state_add_type(module, &state->FdWatch_type, &watch_spec, NULL);
}
