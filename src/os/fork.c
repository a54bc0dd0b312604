/* fork.c -- what a child process must reset.
 *
 * A child shares its parent's poll sets: a change in one would show in the
 * other. So every loop starts over with sets of its own, and what was watched
 * goes on being watched. The threads of its executor are its parent's, and so
 * is the work that was left for them. asyncio itself makes sure that no loop runs in the
 * child until one is started there.
 */
#include "os/fork.h"

#include "os/workers.h"

void
af_fork_register(AfLoop *loop)
{
    AfLoop *next = loop->state->first_loop;
    loop->next_loop = next;
    loop->previous_loop = NULL;
    if (next != NULL) {
        next->previous_loop = loop;
    }
    loop->state->first_loop = loop;
}

void
af_fork_unregister(AfLoop *loop)
{
    if (loop->previous_loop != NULL) {
        loop->previous_loop->next_loop = loop->next_loop;
    }
    else if (loop->state->first_loop == loop) {
        loop->state->first_loop = loop->next_loop;
    }
    if (loop->next_loop != NULL) {
        loop->next_loop->previous_loop = loop->previous_loop;
    }
    loop->next_loop = loop->previous_loop = NULL;
}

int
af_fork_after_in_child(AfState *state, AfForkReset reset)
{
    for (AfLoop *loop = state->first_loop; loop; loop = loop->next_loop) {
        if (af_poll_after_fork(&loop->poll) < 0
            || (loop->workers != NULL
                && af_workers_after_fork(loop->workers) < 0)) {
            return -1;
        }
        reset(loop);
    }
    return 0;
}
