/* echo_epoll.c -- an echo server on bare epoll: what the kernel alone costs.
 *
 * Usage: echo_epoll tcp | udp | unix PATH */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

enum {
    EVENTS = 256,
    SCRATCH_SIZE = 1 << 16,
    BATCH = 32,
    LARGEST_DATAGRAM = 2048
};

typedef struct Peer Peer;

struct Peer {
    int fd;
    void (*on_event)(Peer *peer);
    char *kept; /* what the socket would not take yet */
    size_t kept_from;
    size_t kept_to;
};

static int epoll_fd;
static char scratch[SCRATCH_SIZE];

static void
peer_watch(Peer *peer, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.ptr = peer};
    if (epoll_ctl(epoll_fd, operation, peer->fd, &event) < 0) {
        die("epoll_ctl");
    }
}

static Peer *
peer_new(int fd, void (*on_event)(Peer *))
{
    Peer *peer = allocate(1, sizeof(Peer));
    peer->fd = fd;
    peer->on_event = on_event;
    peer_watch(peer, EPOLLIN, EPOLL_CTL_ADD);
    return peer;
}

static void
peer_close(Peer *peer)
{
    close(peer->fd);
    free(peer->kept);
    free(peer);
}

/* Reading stops until the rest is out, so one scratchful is all a peer can keep. */
static void
peer_keep(Peer *peer, const char *data, size_t length)
{
    if (peer->kept == NULL) {
        peer->kept = allocate(1, SCRATCH_SIZE);
    }
    memcpy(peer->kept, data, length);
    peer->kept_from = 0;
    peer->kept_to = length;
    peer_watch(peer, EPOLLOUT, EPOLL_CTL_MOD);
}

static void
peer_flush(Peer *peer)
{
    size_t left = peer->kept_to - peer->kept_from;
    ssize_t sent =
        send(peer->fd, peer->kept + peer->kept_from, left, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN) {
            peer_close(peer);
        }
        return;
    }
    peer->kept_from += (size_t)sent;
    if (peer->kept_from == peer->kept_to) {
        peer_watch(peer, EPOLLIN, EPOLL_CTL_MOD);
    }
}

static void
peer_echo(Peer *peer)
{
    ssize_t length = recv(peer->fd, scratch, SCRATCH_SIZE, 0);
    if (length <= 0) {
        if (length == 0 || errno != EAGAIN) {
            peer_close(peer);
        }
        return;
    }
    ssize_t sent = send(peer->fd, scratch, (size_t)length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        peer_close(peer);
        return;
    }
    sent = sent < 0 ? 0 : sent;
    if (sent < length) {
        peer_keep(peer, scratch + sent, (size_t)(length - sent));
    }
}

static void
on_peer(Peer *peer)
{
    if (peer->kept_from < peer->kept_to) {
        peer_flush(peer);
    }
    else {
        peer_echo(peer);
    }
}

static void
on_listener(Peer *listener)
{
    int fd;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        peer_new(fd, on_peer);
    }
}

/* Datagrams come and go in batches: one system call for up to 32 of them. */
static void
on_datagrams(Peer *peer)
{
    static char data[BATCH][LARGEST_DATAGRAM];
    static struct sockaddr_storage addresses[BATCH];
    struct iovec pieces[BATCH];
    struct mmsghdr batch[BATCH];
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){data[i], LARGEST_DATAGRAM};
        batch[i].msg_hdr = (struct msghdr){
            .msg_name = &addresses[i],
            .msg_namelen = sizeof(addresses[i]),
            .msg_iov = &pieces[i],
            .msg_iovlen = 1,
        };
    }
    int count = recvmmsg(peer->fd, batch, BATCH, 0, NULL);
    for (int i = 0; i < count; i++) {
        pieces[i].iov_len = batch[i].msg_len;
    }
    if (count > 0) {
        sendmmsg(peer->fd, batch, (unsigned)count, 0);
    }
}

static void
on_control(Peer *peer)
{
    (void)peer;
    if (!control_answer()) {
        exit(0);
    }
}

static void
serve(void)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            Peer *peer = events[i].data.ptr;
            peer->on_event(peer);
        }
    }
}

int
main(int argc, char **argv)
{
    if (argc < 2 || (strcmp(argv[1], "unix") == 0) != (argc == 3)) {
        die("usage: echo_epoll tcp | udp | unix PATH");
    }
    raise_descriptor_limit();
    int fd = bound_socket(argv[1], argv[2]);
    epoll_fd = epoll_create1(0);
    peer_new(fd, strcmp(argv[1], "udp") == 0 ? on_datagrams : on_listener);
    peer_new(STDIN_FILENO, on_control);
    announce(fd);
    serve();
}
