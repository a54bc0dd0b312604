/* state.c -- creation, traversal and clearing of the module state. */
#include "base/state.h"

#include <string.h>

static int
state_intern(PyObject **slot, const char *name)
{
    *slot = PyUnicode_InternFromString(name);
    return *slot == NULL ? -1 : 0;
}

/* `attributes` is a path like "Future.cancel". Steals `object`. */
static PyObject *
state_resolve(PyObject *object, const char *attributes)
{
    while (object != NULL) {
        const char *dot = strchr(attributes, '.');
        size_t length =
            dot == NULL ? strlen(attributes) : (size_t)(dot - attributes);
        PyObject *name =
            PyUnicode_FromStringAndSize(attributes, (Py_ssize_t)length);
        PyObject *found = name == NULL ? NULL : PyObject_GetAttr(object, name);
        Py_XDECREF(name);
        Py_DECREF(object);
        object = found;
        if (dot == NULL) {
            break;
        }
        attributes = dot + 1;
    }
    return object;
}

static int
state_import(PyObject **slot, const char *module_name, const char *attributes)
{
    *slot = state_resolve(PyImport_ImportModule(module_name), attributes);
    return *slot == NULL ? -1 : 0;
}

int
af_state_init(AfState *state)
{
#define INTERN(name)                                   \
    if (state_intern(&state->str_##name, #name) < 0) { \
        return -1;                                     \
    }
    AF_STATE_NAMES(INTERN)
#undef INTERN
#define IMPORT(name, module, attribute)                      \
    if (state_import(&state->name, module, attribute) < 0) { \
        return -1;                                           \
    }
    AF_STATE_IMPORTS(IMPORT)
#undef IMPORT
    state->empty_tuple = PyTuple_New(0);
    state->kwnames_loop = PyTuple_Pack(1, state->str_loop);
    state->kwnames_fileno = PyTuple_Pack(1, state->str_fileno);
    state->kwnames_context = PyTuple_Pack(1, state->str_context);
    if (state->empty_tuple == NULL || state->kwnames_loop == NULL
        || state->kwnames_fileno == NULL || state->kwnames_context == NULL) {
        return -1;
    }
    return 0;
}

int
af_state_traverse(AfState *state, visitproc visit, void *arg)
{
#define VISIT(name) Py_VISIT(state->name##_type);
    AF_STATE_TYPES(VISIT)
#undef VISIT
#define VISIT(name, module, attribute) Py_VISIT(state->name);
    AF_STATE_IMPORTS(VISIT)
#undef VISIT
    Py_VISIT(state->empty_tuple);
    Py_VISIT(state->kwnames_loop);
    Py_VISIT(state->kwnames_fileno);
    Py_VISIT(state->kwnames_context);
    Py_VISIT(state->stop_iteration);
    Py_VISIT(state->no_vars);
    Py_VISIT(state->StepWrapper);
    Py_VISIT(state->loop_class);
    Py_VISIT(state->StreamReader);
    Py_VISIT(state->ReaderProtocol);
    Py_VISIT(state->feed_data);
    Py_VISIT(state->wakeup_waiter);
    Py_VISIT(state->reader_received);
    Py_VISIT(state->reader_property);
    Py_VISIT(state->orphans);
    return 0;
}

void
af_state_clear(AfState *state)
{
    af_freelist_close(&state->handles);
    af_freelist_close(&state->timers);
    af_freelist_close(&state->futures);
    af_freelist_close(&state->tasks);
    af_freelist_close(&state->awaits);
#define CLEAR(name) Py_CLEAR(state->name##_type);
    AF_STATE_TYPES(CLEAR)
#undef CLEAR
#define CLEAR(name) Py_CLEAR(state->str_##name);
    AF_STATE_NAMES(CLEAR)
#undef CLEAR
#define CLEAR(name, module, attribute) Py_CLEAR(state->name);
    AF_STATE_IMPORTS(CLEAR)
#undef CLEAR
    Py_CLEAR(state->empty_tuple);
    Py_CLEAR(state->kwnames_loop);
    Py_CLEAR(state->kwnames_fileno);
    Py_CLEAR(state->kwnames_context);
    Py_CLEAR(state->stop_iteration);
    Py_CLEAR(state->no_vars);
    Py_CLEAR(state->StepWrapper);
    Py_CLEAR(state->loop_class);
    Py_CLEAR(state->StreamReader);
    Py_CLEAR(state->ReaderProtocol);
    Py_CLEAR(state->feed_data);
    Py_CLEAR(state->wakeup_waiter);
    Py_CLEAR(state->reader_received);
    Py_CLEAR(state->reader_property);
    Py_CLEAR(state->orphans);
}

AfState *
af_state_of(PyObject *self)
{
    PyObject *module = ((PyHeapTypeObject *)Py_TYPE(self))->ht_module;
    if (module == NULL || PyModule_GetDef(module) != &af_module_def) {
        module = PyType_GetModuleByDef(Py_TYPE(self), &af_module_def);
    }
    return PyModule_GetState(module);
}

AfState *
af_state_of_dying(PyObject *self)
{
    PyObject *module = ((PyHeapTypeObject *)Py_TYPE(self))->ht_module;
    return module == NULL || PyModule_GetDef(module) != &af_module_def
               ? NULL
               : PyModule_GetState(module);
}

int
af_state_add_type(PyObject *module, PyTypeObject **slot, PyType_Spec *spec,
                  PyObject *base)
{
    *slot = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, base);
    return *slot == NULL ? -1 : 0;
}

int
af_state_check_slot(PyObject *type, const char *name, Py_ssize_t offset)
{
    PyObject *descriptor = PyObject_GetAttrString(type, name);
    if (descriptor == NULL) {
        return -1;
    }
    bool fits =
        Py_IS_TYPE(descriptor, &PyMemberDescr_Type)
        && ((PyMemberDescrObject *)descriptor)->d_member->offset == offset;
    Py_DECREF(descriptor);
    if (!fits) {
        PyErr_Format(PyExc_ImportError,
                     "asyncfast does not know this CPython's %R: "
                     "its slot %s is not where it was",
                     type, name);
        return -1;
    }
    return 0;
}
