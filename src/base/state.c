/* state.c -- creation, traversal and clearing of the module state. */
#include "base/state.h"

static int
state_intern(PyObject **slot, const char *name)
{
    *slot = PyUnicode_InternFromString(name);
    return *slot == NULL ? -1 : 0;
}

static int
state_import(PyObject **slot, const char *module_name, const char *attribute)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return -1;
    }
    *slot = PyObject_GetAttrString(module, attribute);
    Py_DECREF(module);
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
    if (state->empty_tuple == NULL || state->kwnames_loop == NULL
        || state->kwnames_fileno == NULL) {
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
    return 0;
}

static void
freelist_clear(AfFreelist *list)
{
    list->closed = true;
    while (list->count > 0) {
        PyObject_GC_Del(list->items[--list->count]);
    }
}

void
af_state_clear(AfState *state)
{
    freelist_clear(&state->handles);
    freelist_clear(&state->timers);
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
}

AfState *
af_state_of_dying(PyObject *self)
{
    PyObject *module = ((PyHeapTypeObject *)Py_TYPE(self))->ht_module;
    return module == NULL ? NULL : PyModule_GetState(module);
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
