/* connect.c -- a connection's whole life: connect, half-close, await the server's
 * close. The server's own EOF tells that it has finished with the connection, so
 * the client never runs ahead of it. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"
#include "load.h"

static void
connect_start(Load *load, Connection *connection)
{
    if (!load_may_issue(load)) {
        return;
    }
    connection->active_at = load->now;
    connection->fd = load_connect(load);
    if (shutdown(connection->fd, SHUT_WR) < 0) {
        die("shutdown");
    }
    load_watch(load, connection, EPOLLIN);
    load->issued++;
}

static void
connect_on_event(Load *load, Connection *connection, uint32_t events)
{
    (void)events;
    ssize_t length = recv(connection->fd, load->inbox, INBOX_SIZE, 0);
    if (length != 0) {
        errno = length < 0 ? errno : 0;
        die("the server did not close the connection cleanly");
    }
    close(connection->fd);
    load_complete(load, connection->active_at);
    connect_start(load, connection);
}

/* Every stretch makes its own connections. */
static void
connect_open(Load *load, Connection *connection)
{
    (void)load;
    connection->fd = -1;
}

const Driver CONNECT_DRIVER = {connect_open, connect_start, connect_on_event,
                               NULL};
