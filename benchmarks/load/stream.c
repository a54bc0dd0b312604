/* stream.c -- messages echoed over TCP, Unix sockets and TLS. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common.h"
#include "load.h"

static ssize_t
stream_send(Connection *connection, const void *data, size_t size)
{
    if (connection->tls) {
        return tls_write(connection->tls, data, size);
    }
    return send(connection->fd, data, size, MSG_NOSIGNAL);
}

static ssize_t
stream_recv(Connection *connection, void *buffer, size_t size)
{
    if (connection->tls) {
        return tls_read(connection->tls, buffer, size);
    }
    return recv(connection->fd, buffer, size, 0);
}

static void
stream_watch_room(Load *load, Connection *connection, bool waits)
{
    if (connection->waits_to_write != waits) {
        connection->waits_to_write = waits;
        load_rewatch(load, connection, waits ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
}

static void
stream_flush(Load *load, Connection *connection)
{
    size_t size = load->options.size;
    while (connection->unsent > 0) {
        size_t room = size * load->options.depth - connection->write_at;
        size_t chunk = connection->unsent < room ? connection->unsent : room;
        const char *next = load->outbox + connection->write_at;
        ssize_t sent = stream_send(connection, next, chunk);
        if (sent < 0 && errno != EAGAIN) {
            die("send");
        }
        if (sent < 0) {
            break;
        }
        connection->unsent -= (size_t)sent;
        connection->write_at = (connection->write_at + (size_t)sent) % size;
    }
    stream_watch_room(load, connection, connection->unsent > 0);
}

static void
stream_issue(Load *load, Connection *connection)
{
    uint32_t depth = load->options.depth;
    while (connection->in_flight < depth && load_may_issue(load)) {
        uint32_t slot = (connection->oldest + connection->in_flight) % depth;
        connection->sent_at[slot] = load->now;
        connection->in_flight++;
        connection->unsent += load->options.size;
        load->issued++;
    }
    stream_flush(load, connection);
}

/* Of a reply that is no echo the beginning is compared: dates and the like differ
 * further on. */
static void
stream_check_head(const Load *load, const Connection *connection, size_t length)
{
    enum { HEAD = 12 };
    size_t at = connection->read_at;
    size_t head = load->reply.size < HEAD ? load->reply.size : HEAD;
    size_t rest = at < head ? head - at : 0;
    size_t chunk = rest < length ? rest : length;
    if (memcmp(load->inbox, load->reply.data + at, chunk) != 0) {
        errno = 0;
        die("another reply than expected: %.*s", (int)chunk, load->inbox);
    }
}

/* The outbox repeats the message, so what arrived is compared piece by piece with
 * the outbox from the same position in the message. */
static void
stream_check(const Load *load, const Connection *connection, size_t length)
{
    size_t size = load->options.size, done = 0, at = connection->read_at;
    while (done < length) {
        size_t chunk = length - done < size - at ? length - done : size - at;
        if (memcmp(load->inbox + done, load->outbox + at, chunk) != 0) {
            errno = 0;
            die("the reply differs from the message");
        }
        done += chunk;
        at = 0;
    }
}

static void
stream_take_replies(Load *load, Connection *connection, size_t length)
{
    connection->read_at += length;
    while (connection->read_at >= load->reply_size) {
        if (connection->in_flight == 0) {
            errno = 0;
            die("more came back than was sent");
        }
        load_complete(load, connection->sent_at[connection->oldest]);
        connection->oldest = (connection->oldest + 1) % load->options.depth;
        connection->in_flight--;
        connection->read_at -= load->reply_size;
    }
}

static void
stream_read(Load *load, Connection *connection)
{
    ssize_t length = stream_recv(connection, load->inbox, INBOX_SIZE);
    if (length < 0 && errno == EAGAIN) {
        return;
    }
    if (length <= 0) {
        errno = length == 0 ? 0 : errno;
        die("the server closed the connection");
    }
    if (load->reply.data) {
        stream_check_head(load, connection, (size_t)length);
    }
    else if (load->checking) {
        stream_check(load, connection, (size_t)length);
    }
    stream_take_replies(load, connection, (size_t)length);
    stream_issue(load, connection);
}

/* Over the still blocking socket: the answer is read byte by byte, so that nothing
 * behind its empty line is taken. */
static void
stream_greet(Load *load, Connection *connection)
{
    static const char END[] = "\r\n\r\n";
    size_t matched = 0;
    char byte;
    if (stream_send(connection, load->hello.data, load->hello.size)
        != (ssize_t)load->hello.size) {
        die("send");
    }
    while (matched < sizeof(END) - 1) {
        if (stream_recv(connection, &byte, 1) != 1) {
            die("no answer to the first words");
        }
        bool next = byte == END[matched];
        matched = next ? matched + 1 : byte == END[0];
    }
}

static void
stream_open(Load *load, Connection *connection)
{
    connection->fd = load_connect(load);
    connection->sent_at = allocate(load->options.depth, sizeof(uint64_t));
    if (load->options.tls) {
        connection->tls = tls_open(connection->fd);
    }
    if (load->hello.data) {
        stream_greet(load, connection);
    }
    set_nonblocking(connection->fd);
    load_watch(load, connection, EPOLLIN);
}

static void
stream_on_event(Load *load, Connection *connection, uint32_t events)
{
    if (events & EPOLLOUT) {
        stream_flush(load, connection);
    }
    if (events & ~(uint32_t)EPOLLOUT) {
        stream_read(load, connection);
    }
}

const Driver STREAM_DRIVER = {stream_open, stream_issue, stream_on_event, NULL};
