/* loop_type.h -- the type of the loop. */
#ifndef AF_API_LOOP_TYPE_H
#define AF_API_LOOP_TYPE_H

#include "core/loop.h"

int af_loop_init_type(PyObject *module);

#endif
