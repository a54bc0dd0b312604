/* layout.h -- the check of asyncio's Future and Task structs. */
#ifndef AF_CORE_LAYOUT_H
#define AF_CORE_LAYOUT_H

#include "core/task.h"

/* _adopt_tasks(pending, failed, waiting, cancelled, wrapper, wakeup): True, and from then on
 * our loops make our tasks, if these stock objects hold in their structs what
 * their attributes say; else False. */
PyObject *af_layout_adopt(PyObject *module, PyObject *args);

#endif
