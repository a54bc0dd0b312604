/* datagram.c -- datagrams echoed over UDP.
 *
 * A datagram may get lost, so each carries the time it was sent; what has not come
 * back for a while is counted as lost and replaced, and a straggler is recognised by
 * its time. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common.h"
#include "load.h"

static const uint64_t GIVE_UP_NS = 200000000;

static void
datagram_issue(Load *load, Connection *connection)
{
    while (connection->in_flight < load->options.depth
           && load_may_issue(load)) {
        memcpy(load->outbox, &load->now, sizeof(load->now));
        ssize_t sent =
            send(connection->fd, load->outbox, load->options.size, 0);
        if (sent < 0 && errno != EAGAIN) {
            die("send");
        }
        connection->in_flight++;
        connection->active_at = load->now;
        load->issued++;
    }
}

static void
datagram_check(const Load *load, size_t length)
{
    size_t head = sizeof(uint64_t);
    errno = 0;
    if (length != load->options.size) {
        die("a reply of %zu bytes to a message of %zu", length,
            load->options.size);
    }
    if (memcmp(load->inbox + head, load->outbox + head, length - head) != 0) {
        die("the reply differs from the message");
    }
}

static void
datagram_take(Load *load, Connection *connection, size_t length)
{
    uint64_t sent_at;
    datagram_check(load, length);
    memcpy(&sent_at, load->inbox, sizeof(sent_at));
    if (sent_at >= connection->given_up_at) {
        load_complete(load, sent_at);
        connection->in_flight--;
        connection->active_at = load->now;
    }
}

static bool
datagram_read(Load *load, Connection *connection)
{
    ssize_t length = recv(connection->fd, load->inbox, INBOX_SIZE, 0);
    if (length < 0 && errno == EAGAIN) {
        return false;
    }
    if (length < 0) {
        die("recv");
    }
    datagram_take(load, connection, (size_t)length);
    return true;
}

static void
datagram_on_event(Load *load, Connection *connection, uint32_t events)
{
    (void)events;
    for (uint32_t i = 0; i < load->options.depth; i++) {
        if (!datagram_read(load, connection)) {
            break;
        }
    }
    datagram_issue(load, connection);
}

static void
datagram_sweep(Load *load)
{
    for (int i = 0; i < load->options.connections; i++) {
        Connection *connection = &load->connections[i];
        if (connection->in_flight > 0
            && load->now > connection->active_at + GIVE_UP_NS) {
            load->lost += connection->in_flight;
            connection->in_flight = 0;
            connection->given_up_at = load->now;
            datagram_issue(load, connection);
        }
    }
}

static void
datagram_open(Load *load, Connection *connection)
{
    connection->fd = load_connect(load);
    set_nonblocking(connection->fd);
    load_watch(load, connection, EPOLLIN);
}

const Driver DATAGRAM_DRIVER = {
    datagram_open,
    datagram_issue,
    datagram_on_event,
    datagram_sweep,
};
