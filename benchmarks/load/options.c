/* options.c -- the command line of the load client. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>

#include "common.h"

enum { LARGEST_DATAGRAM = 65507, SMALLEST_DATAGRAM = sizeof(uint64_t) };

static const struct option TABLE[] = {
    {"tcp", required_argument, NULL, 't'},
    {"unix", required_argument, NULL, 'x'},
    {"udp", required_argument, NULL, 'u'},
    {"tls", no_argument, NULL, 'T'},
    {"connect", no_argument, NULL, 'C'},
    {"hello", required_argument, NULL, 'h'},
    {"message", required_argument, NULL, 'M'},
    {"reply", required_argument, NULL, 'r'},
    {"connections", required_argument, NULL, 'c'},
    {"size", required_argument, NULL, 's'},
    {"depth", required_argument, NULL, 'd'},
    {"warmup", required_argument, NULL, 'w'},
    {"seconds", required_argument, NULL, 'S'},
    {"messages", required_argument, NULL, 'm'},
    {NULL, 0, NULL, 0},
};

static double
number(const char *text, double lowest, double highest)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= lowest && value <= highest)) {
        errno = 0;
        die("not a number between %g and %g: %s", lowest, highest, text);
    }
    return value;
}

static void
take_load(Options *options, int letter, const char *value)
{
    switch (letter) {
    case 'c':
        options->connections = (int)number(value, 1, 100000);
        break;
    case 's':
        options->size = (size_t)number(value, 1, 1 << 26);
        break;
    case 'd':
        options->depth = (uint32_t)number(value, 1, 1024);
        break;
    case 'w':
        options->warmup = number(value, 0, 600);
        break;
    case 'S':
        options->seconds = number(value, 0, 600);
        break;
    case 'm':
        options->messages = (uint64_t)number(value, 1, 1e15);
        break;
    default:
        exit(2);
    }
}

static void
take_talk(Options *options, int letter, const char *value)
{
    switch (letter) {
    case 'h':
        options->hello = value;
        break;
    case 'M':
        options->message = value;
        break;
    case 'r':
        options->reply = value;
        break;
    default:
        take_load(options, letter, value);
    }
}

static void
take(Options *options, int letter, const char *value)
{
    switch (letter) {
    case 't':
        options->port = (int)number(value, 1, 65535);
        break;
    case 'x':
        options->unix_path = value;
        break;
    case 'u':
        options->mode = LOAD_DATAGRAM;
        options->port = (int)number(value, 1, 65535);
        break;
    case 'T':
        options->tls = true;
        break;
    case 'C':
        options->mode = LOAD_CONNECT;
        break;
    default:
        take_talk(options, letter, value);
    }
}

static void
check(const Options *options)
{
    errno = 0;
    if ((options->port == 0) == (options->unix_path == NULL)) {
        die("give exactly one of --tcp PORT, --udp PORT and --unix PATH");
    }
    if (options->tls && options->mode != LOAD_ECHO) {
        die("--tls goes with echo over a stream only");
    }
    if ((options->message == NULL) != (options->reply == NULL)
        || (options->message != NULL && options->mode != LOAD_ECHO)) {
        die("--message and --reply go together, over a stream");
    }
    /* A datagram carries the time it was sent. */
    if (options->mode == LOAD_DATAGRAM
        && (options->size < SMALLEST_DATAGRAM
            || options->size > LARGEST_DATAGRAM)) {
        die("a datagram has %d to %d bytes", (int)SMALLEST_DATAGRAM,
            LARGEST_DATAGRAM);
    }
}

Options
options_parse(int argc, char **argv)
{
    Options options = {
        .connections = 1,
        .size = 1024,
        .depth = 1,
        .warmup = 0.2,
        .seconds = 1,
        .messages = UINT64_MAX,
    };
    int letter;
    while ((letter = getopt_long(argc, argv, "", TABLE, NULL)) != -1) {
        take(&options, letter, optarg);
    }
    if (optind != argc) {
        errno = 0;
        die("unexpected argument: %s", argv[optind]);
    }
    check(&options);
    return options;
}
