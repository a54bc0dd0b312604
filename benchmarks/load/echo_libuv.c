/* echo_libuv.c -- an echo server on libuv, as its own users write one.
 *
 * Usage: echo_libuv tcp | unix PATH */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "common.h"

enum { SCRATCH_SIZE = 1 << 16 };

typedef union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
} Peer;

typedef struct {
    uv_write_t request;
    char data[];
} Pending;

static char scratch[SCRATCH_SIZE];

static void
on_close(uv_handle_t *handle)
{
    free(handle);
}

static void
on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle, (void)suggested;
    *buffer = uv_buf_init(scratch, SCRATCH_SIZE);
}

static void
on_written(uv_write_t *request, int status)
{
    if (status < 0 && !uv_is_closing((uv_handle_t *)request->handle)) {
        uv_close((uv_handle_t *)request->handle, on_close);
    }
    free(request);
}

static void
stream_write_later(uv_stream_t *stream, const char *data, size_t length)
{
    Pending *pending = allocate(1, sizeof(Pending) + length);
    memcpy(pending->data, data, length);
    uv_buf_t rest = uv_buf_init(pending->data, (unsigned)length);
    uv_write(&pending->request, stream, &rest, 1, on_written);
}

static void
on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
    if (length < 0) {
        uv_close((uv_handle_t *)stream, on_close);
        return;
    }
    uv_buf_t reply = uv_buf_init(buffer->base, (unsigned)length);
    int sent = length > 0 ? uv_try_write(stream, &reply, 1) : 0;
    sent = sent < 0 ? 0 : sent;
    if (sent < length) {
        stream_write_later(stream, buffer->base + sent,
                           (size_t)(length - sent));
    }
}

static void
peer_init(uv_loop_t *loop, Peer *peer, bool local)
{
    if (local) {
        uv_pipe_init(loop, &peer->pipe, 0);
    }
    else {
        uv_tcp_init(loop, &peer->tcp);
    }
}

static void
on_connection(uv_stream_t *listener, int status)
{
    if (status < 0) {
        return;
    }
    Peer *peer = allocate(1, sizeof(Peer));
    peer_init(listener->loop, peer, listener->type == UV_NAMED_PIPE);
    if (uv_accept(listener, &peer->stream) < 0) {
        uv_close(&peer->handle, on_close);
        return;
    }
    uv_read_start(&peer->stream, on_alloc, on_read);
}

static void
on_control(uv_poll_t *control, int status, int events)
{
    (void)control, (void)status, (void)events;
    if (!control_answer()) {
        exit(0);
    }
}

int
main(int argc, char **argv)
{
    if (argc < 2 || (strcmp(argv[1], "unix") == 0) != (argc == 3)) {
        die("usage: echo_libuv tcp | unix PATH");
    }
    bool local = argc == 3;
    static Peer listener;
    static uv_poll_t control;
    uv_loop_t *loop = uv_default_loop();
    raise_descriptor_limit();
    int fd = bound_socket(argv[1], argv[2]);
    peer_init(loop, &listener, local);
    int error = local ? uv_pipe_open(&listener.pipe, fd)
                      : uv_tcp_open(&listener.tcp, fd);
    if (error < 0 || uv_listen(&listener.stream, 1024, on_connection) < 0) {
        die("uv_listen");
    }
    uv_poll_init(loop, &control, STDIN_FILENO);
    uv_poll_start(&control, UV_READABLE, on_control);
    announce(fd);
    return uv_run(loop, UV_RUN_DEFAULT);
}
