/*
 * loadgen: HTTP/1.1 load in one epoll thread, closed loop by default, open loop with -r.
 *
 *   loadgen -p PORT -P PATH -b BODIES -c CONNECTIONS -t SECONDS [options]
 *
 *   -b FILE  request bodies, one a line, taken in turn       -A FILE  Authorization values, one a line, taken in turn
 *   -H 'K: V'  a further header                              -n COUNT  stop after so many requests
 *   -w SECONDS  warm up first, uncounted                     -R MS  dial the connections over so many milliseconds
 *   -r RATE  open loop: requests a second, latency counted from when each was due, also while it waits for a connection
 *   -g US  count gaps between chunks over this               -k  close the connection after each answer
 *   -X MS  hang up this long after a stream's first chunk    -S  read nothing after the head (a stalled client)
 *
 * Prints one line of JSON: requests, errors, streams cut before [DONE]; latency, time to the first chunk, gap between
 * chunks and time under way of a chunk in microseconds; chunks a second.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 1024
#define READ_BYTES 262144
#define QUEUE_MAX (1 << 20)
#define MARK_BYTES 19 /* @t, 16 digits, @ */
#define DONE_BYTES 6

typedef unsigned long long count;

/* What was measured, in microseconds. */

typedef struct {
    float *values;
    size_t size, space;
} samples;

static samples latency, first_chunk, gap, under_way;

static void add(samples *s, float value) {
    if (s->size == s->space) {
        s->space = s->space ? s->space * 2 : 65536;
        s->values = realloc(s->values, s->space * sizeof *s->values);
    }
    s->values[s->size++] = value;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void sort(samples *s) { qsort(s->values, s->size, sizeof *s->values, ascending); }

/* Return a quantile of sorted samples. */
static double quantile(const samples *s, double p) { return s->size ? s->values[(size_t)(p * (s->size - 1) + .5)] : 0; }

static struct {
    count answers, errors, chunks, cut, dialled, bytes, long_gaps;
} counted;
static char first_error[400];

/* What is asked. */

typedef struct {
    char **line;
    int size;
} lines;

static lines bodies, authorizations;
static struct sockaddr_in address;
static const char *path = "/v1/chat/completions";
static char headers[4096];
static int connections_max = 1, stop_reading, close_each, ramp_ms, abort_ms = -1;
static double seconds = 5, warm_s, rate, long_gap_us = 40000;
static count requests_max;

/* One connection, and the request under way on it. */

enum body_state { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

typedef struct {
    int fd, busy, wants_write, given_back;
    char *out;
    size_t out_size, out_sent;
    uint64_t began_us, first_us, last_us; /* of the request, of its first and its last chunk */
    count chunks;
    char head[16384];
    int head_size, head_read;
    int status, chunked, closing; /* as the head says */
    long length;                  /* bytes of the body still to come, -1: until the connection ends */
    enum body_state state;
    long chunk_left;
    char size_line[32];
    int line_size;
    char tail[64]; /* end of the last read: a mark may be cut in two */
    int tail_size, done_seen;
    char error[300];
    int error_size;
} connection;

static int epoll;
static connection *connections;
static uint64_t warm_end_us, end_us;

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

static int measured(uint64_t at_us) { return at_us >= warm_end_us && at_us < end_us; }

static void arm(connection *c) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (c->wants_write ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
}

static void dial(connection *c) {
    int on = 1, receive_bytes = 16384;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLOUT, .data.ptr = c};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (stop_reading)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    counted.dialled++;
    if (connect(c->fd, (void *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
        perror("loadgen: connect");
        exit(1);
    }
    c->wants_write = 1;
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
}

static void hang_up(connection *c) {
    if (c->fd < 0)
        return;
    epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, 0);
    close(c->fd);
    c->fd = -1;
}

static void flush(connection *c) {
    while (c->out_sent < c->out_size) {
        ssize_t written = write(c->fd, c->out + c->out_sent, c->out_size - c->out_sent);
        if (written < 0) {
            if ((errno == EAGAIN || errno == ENOTCONN) && !c->wants_write) {
                c->wants_write = 1;
                arm(c);
            }
            return;
        }
        c->out_sent += written;
    }
    if (c->wants_write) {
        c->wants_write = 0;
        arm(c);
    }
}

static count issued;

/* Send the next request; `due_us` is when it should have gone out. */
static void ask(connection *c, uint64_t due_us) {
    const char *body = bodies.line[issued % bodies.size];
    const char *who = authorizations.size ? authorizations.line[issued % authorizations.size] : 0;
    size_t size = strlen(body);
    issued++;
    c->out = realloc(c->out, size + 8192);
    c->out_size = sprintf(c->out,
                          "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: */*\r\n"
                          "User-Agent: OpenAI/Python 1.99.0\r\n%s%s%s%sContent-Length: %zu\r\n\r\n",
                          path, who ? "Authorization: " : "", who ? who : "", who ? "\r\n" : "", headers, size);
    memcpy(c->out + c->out_size, body, size);
    c->out_size += size;
    c->out_sent = 0;
    c->busy = 1;
    c->given_back = 0;
    c->began_us = due_us;
    c->first_us = c->last_us = c->chunks = 0;
    c->head_size = c->head_read = c->status = c->closing = 0;
    c->state = CHUNK_SIZE;
    c->line_size = c->tail_size = c->done_seen = c->error_size = 0;
    if (c->fd < 0)
        dial(c);
    else
        flush(c);
}

/* Reading an answer. */

static void count_chunk(connection *c, uint64_t sent_us, uint64_t now) {
    c->chunks++;
    if (measured(now)) {
        counted.chunks++;
        add(&under_way, now > sent_us ? (float)(now - sent_us) : 0);
        if (c->last_us) {
            float since = now - c->last_us;
            add(&gap, since);
            counted.long_gaps += since > long_gap_us;
        }
        if (!c->first_us && c->began_us >= warm_end_us)
            add(&first_chunk, now - c->began_us);
    }
    if (!c->first_us)
        c->first_us = now;
    c->last_us = now;
}

static void keep_error(connection *c, const char *bytes, size_t size) {
    size_t room = 280 - c->error_size, kept = size < room ? size : room;
    memcpy(c->error + c->error_size, bytes, kept);
    c->error_size += kept;
}

static void keep_tail(connection *c, const char *from, const char *end) {
    c->tail_size = end - from;
    memcpy(c->tail, from, c->tail_size);
}

/* Find the marks that the upstream put into its chunks, and [DONE]. */
static void scan(connection *c, const char *bytes, size_t size, uint64_t now) {
    static char text[READ_BYTES + sizeof c->tail];
    if (c->status != 200) {
        keep_error(c, bytes, size);
        return;
    }
    memcpy(text, c->tail, c->tail_size);
    memcpy(text + c->tail_size, bytes, size);
    char *at = text, *end = text + c->tail_size + size, *mark;
    while (at < end && (mark = memmem(at, end - at, "@t", 2))) {
        if (mark + MARK_BYTES > end) {
            keep_tail(c, mark, end);
            return;
        }
        if (mark[MARK_BYTES - 1] == '@') {
            count_chunk(c, strtoull(mark + 2, 0, 10), now);
            at = mark + MARK_BYTES;
        } else
            at = mark + 2;
    }
    char *from = at > text + DONE_BYTES ? at - DONE_BYTES : text;
    if (memmem(from, end - from, "[DONE]", DONE_BYTES))
        c->done_seen = 1;
    keep_tail(c, end - at < DONE_BYTES ? at : end - DONE_BYTES, end);
}

static void count_answer(connection *c, uint64_t now, int whole) {
    c->busy = 0;
    if (!measured(now))
        return;
    counted.answers++;
    if (whole && c->status == 200) {
        if (c->began_us >= warm_end_us)
            add(&latency, now - c->began_us);
        counted.cut += c->chunks && !c->done_seen;
        return;
    }
    counted.errors++;
    if (first_error[0])
        return;
    snprintf(first_error, 300, "code=%d ok=%d %.*s", c->status, whole, c->error_size, c->error);
    for (char *z = first_error; *z; z++)
        if (*z == '"' || *z == '\\' || (signed char)*z < 32)
            *z = '\'';
}

/* Return how many of the bytes belong to the head, which may be whole then. */
static size_t read_head(connection *c, const char *bytes, size_t size) {
    size_t room = sizeof c->head - 1 - c->head_size, kept = size < room ? size : room, before = c->head_size;
    memcpy(c->head + c->head_size, bytes, kept);
    c->head_size += kept;
    c->head[c->head_size] = 0;
    char *blank = strstr(c->head, "\r\n\r\n");
    if (!blank)
        return size;
    blank[2] = 0;
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    c->status = atoi(c->head + 9);
    c->chunked = strcasestr(c->head, "transfer-encoding: chunked") != 0;
    c->length = length ? atol(length + 17) : -1;
    c->closing = strcasestr(c->head, "connection: close") != 0;
    c->head_read = 1;
    return blank - c->head + 4 - before;
}

static int read_chunked(connection *c, const char *bytes, size_t size, uint64_t now) {
    while (size) {
        size_t taken = 1;
        switch (c->state) {
        case CHUNK_SIZE:
            if (*bytes == '\n') {
                c->size_line[c->line_size] = 0;
                c->chunk_left = strtol(c->size_line, 0, 16);
                c->line_size = 0;
                c->state = c->chunk_left ? CHUNK_DATA : TRAILER;
            } else if (c->line_size < 30)
                c->size_line[c->line_size++] = *bytes;
            break;
        case CHUNK_DATA:
            taken = size < (size_t)c->chunk_left ? size : (size_t)c->chunk_left;
            scan(c, bytes, taken, now);
            c->chunk_left -= taken;
            if (!c->chunk_left)
                c->state = CHUNK_END;
            break;
        case CHUNK_END:
            if (*bytes == '\n')
                c->state = CHUNK_SIZE;
            break;
        case TRAILER:
            if (*bytes == '\n' && c->line_size == 0)
                return 1;
            if (*bytes == '\n')
                c->line_size = 0;
            else if (*bytes != '\r')
                c->line_size++;
            break;
        }
        bytes += taken;
        size -= taken;
    }
    return 0;
}

/* Return whether the answer is whole. */
static int feed(connection *c, const char *bytes, size_t size, uint64_t now) {
    if (!c->head_read) {
        size_t taken = read_head(c, bytes, size);
        if (!c->head_read)
            return 0;
        if (c->length == 0 && !c->chunked)
            return 1;
        bytes += taken;
        size -= taken;
    }
    if (!size)
        return 0;
    if (c->chunked)
        return read_chunked(c, bytes, size, now);
    if (c->length < 0) {
        scan(c, bytes, size, now);
        return 0;
    }
    size_t taken = size < (size_t)c->length ? size : (size_t)c->length;
    scan(c, bytes, taken, now);
    c->length -= taken;
    return c->length == 0;
}

/* Open loop: requests that are due wait for an idle connection. */

static uint64_t *queue;
static count queued, sent;
static connection **idle;
static int idle_size;
static double next_due_us;

static void ask_due(uint64_t now) {
    for (; next_due_us <= now && next_due_us < end_us; next_due_us += 1e6 / rate)
        if (queued - sent < QUEUE_MAX)
            queue[queued++ % QUEUE_MAX] = (uint64_t)next_due_us;
    while (sent < queued && idle_size)
        ask(idle[--idle_size], queue[sent++ % QUEUE_MAX]);
}

/* Closed loop: every connection asks again as soon as it was answered. */

static int started;

static int may_ask(void) { return !requests_max || issued < requests_max; }

static void ask_ramped(uint64_t began_us, uint64_t now) {
    int wanted = ramp_ms ? (int)((double)connections_max * (now - began_us) / (ramp_ms * 1000.0)) + 1 : connections_max;
    if (wanted > connections_max)
        wanted = connections_max;
    while (started < wanted && may_ask())
        ask(&connections[started++], now_us());
}

static void go_on(connection *c, uint64_t now, int failed) {
    if (rate) {
        if (!c->given_back)
            idle[idle_size++] = c;
        c->given_back = 1;
    } else if (now < end_us && may_ask()) {
        if (failed)
            usleep(200);
        ask(c, now_us());
    }
}

static void on_event(connection *c, uint32_t events, uint64_t now) {
    static char bytes[READ_BYTES];
    if (c->fd < 0)
        return;
    if (events & EPOLLOUT)
        flush(c);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)))
        return;
    if (stop_reading && c->head_size) {
        struct epoll_event nothing = {.events = 0, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &nothing);
        return;
    }
    int whole = 0, closed = 0;
    ssize_t got = read(c->fd, bytes, stop_reading ? 256 : sizeof bytes);
    if (got > 0) {
        counted.bytes += got;
        whole = c->busy && feed(c, bytes, got, now);
    } else if (got == 0 || errno != EAGAIN) {
        closed = 1;
        whole = c->busy && c->head_read && !c->chunked && c->length < 0;
    }
    if (c->busy && (whole || closed))
        count_answer(c, now, whole);
    if (closed || (whole && (c->closing || close_each)))
        hang_up(c);
    if ((whole || closed) && !c->busy)
        go_on(c, now, closed && !whole);
}

static void abort_streams(uint64_t now) {
    for (int i = 0; i < connections_max; i++) {
        connection *c = &connections[i];
        if (!c->busy || !c->first_us || now - c->first_us <= (uint64_t)abort_ms * 1000)
            continue;
        counted.answers++;
        c->busy = 0;
        hang_up(c);
        if (may_ask())
            ask(c, now_us());
    }
}

static int wait_ms(uint64_t now) {
    int wait = 1;
    if (rate) {
        double until_us = next_due_us - now;
        wait = now >= end_us ? 5 : until_us < 1000 ? 0 : (int)(until_us / 1000);
    } else if (started == connections_max)
        wait = 50;
    return abort_ms >= 0 && wait > 1 ? 1 : wait;
}

static int busy(void) {
    int found = 0;
    for (int i = 0; i < connections_max; i++)
        found += connections[i].busy;
    return found;
}

/* Run the load and return when it ended; an open loop waits up to two seconds for its last answers. */
static uint64_t run(uint64_t began_us) {
    struct epoll_event events[EVENTS];
    uint64_t now, hard_end_us = end_us + (rate ? 2000000 : 0);
    while ((now = now_us()) < hard_end_us) {
        if (rate)
            ask_due(now);
        else
            ask_ramped(began_us, now);
        if (rate && now >= end_us && sent == queued && idle_size == connections_max)
            break;
        int happened = epoll_wait(epoll, events, EVENTS, wait_ms(now));
        uint64_t at_us = now_us();
        for (int i = 0; i < happened; i++)
            on_event(events[i].data.ptr, events[i].events, at_us);
        if (abort_ms >= 0)
            abort_streams(at_us);
        if (!rate && !may_ask() && !busy())
            break;
    }
    return now;
}

static lines read_lines(const char *name) {
    lines read = {0};
    char *line = 0;
    size_t space = 0;
    ssize_t size;
    FILE *file = fopen(name, "r");
    if (!file) {
        perror(name);
        exit(1);
    }
    while ((size = getline(&line, &space, file)) > 0) {
        while (size && (line[size - 1] == '\n' || line[size - 1] == '\r'))
            line[--size] = 0;
        if (!size)
            continue;
        read.line = realloc(read.line, (read.size + 1) * sizeof *read.line);
        read.line[read.size++] = strdup(line);
    }
    fclose(file);
    return read;
}

static void read_options(int argc, char **argv) {
    int option;
    while ((option = getopt(argc, argv, "p:P:H:A:b:c:t:n:r:w:R:g:SX:k")) > 0)
        switch (option) {
        case 'p': address.sin_port = htons(atoi(optarg)); break;
        case 'P': path = optarg; break;
        case 'H': strcat(strcat(headers, optarg), "\r\n"); break;
        case 'A': authorizations = read_lines(optarg); break;
        case 'b': bodies = read_lines(optarg); break;
        case 'c': connections_max = atoi(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'n': requests_max = atoll(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 'w': warm_s = atof(optarg); break;
        case 'R': ramp_ms = atoi(optarg); break;
        case 'g': long_gap_us = atof(optarg); break;
        case 'S': stop_reading = 1; break;
        case 'X': abort_ms = atoi(optarg); break;
        case 'k': close_each = 1; break;
        default: exit(2);
        }
    if (!bodies.size) {
        fprintf(stderr, "loadgen: -b FILE with at least one line is needed\n");
        exit(2);
    }
}

static void report(double elapsed_s) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu_s = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    sort(&latency);
    sort(&first_chunk);
    sort(&gap);
    sort(&under_way);
    printf("{\"req\":%llu,\"err\":%llu,\"cut\":%llu,\"secs\":%.3f,\"rps\":%.1f,", counted.answers, counted.errors,
           counted.cut, elapsed_s, counted.answers / elapsed_s);
    printf("\"lat_p50\":%.0f,\"lat_p90\":%.0f,\"lat_p99\":%.0f,\"lat_max\":%.0f,", quantile(&latency, .5),
           quantile(&latency, .9), quantile(&latency, .99), quantile(&latency, 1));
    printf("\"chunks\":%llu,\"cps\":%.0f,\"ttft_p50\":%.0f,\"ttft_p99\":%.0f,", counted.chunks,
           counted.chunks / elapsed_s, quantile(&first_chunk, .5), quantile(&first_chunk, .99));
    printf("\"gap_p50\":%.0f,\"gap_p99\":%.0f,\"gap_max\":%.0f,\"gap_over\":%llu,", quantile(&gap, .5),
           quantile(&gap, .99), quantile(&gap, 1), counted.long_gaps);
    printf("\"clat_p50\":%.0f,\"clat_p99\":%.0f,\"clat_max\":%.0f,", quantile(&under_way, .5),
           quantile(&under_way, .99), quantile(&under_way, 1));
    printf("\"conns\":%llu,\"inflight\":%d,\"queued\":%llu,\"bytes\":%llu,\"lg_cpu\":%.3f,\"firsterr\":\"%s\"}\n",
           counted.dialled, busy(), queued - sent, counted.bytes, cpu_s, first_error);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    read_options(argc, argv);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    epoll = epoll_create1(0);
    connections = calloc(connections_max, sizeof *connections);
    for (int i = 0; i < connections_max; i++)
        connections[i].fd = -1;
    if (rate) {
        queue = malloc(QUEUE_MAX * sizeof *queue);
        idle = malloc(connections_max * sizeof *idle);
        for (int i = connections_max - 1; i >= 0; i--)
            idle[idle_size++] = &connections[i];
    }
    uint64_t began_us = now_us();
    next_due_us = began_us;
    warm_end_us = began_us + (uint64_t)(warm_s * 1e6);
    end_us = warm_end_us + (uint64_t)(seconds * 1e6);
    uint64_t ended_us = run(began_us);
    report(((ended_us > end_us ? end_us : ended_us) - warm_end_us) / 1e6);
    fflush(stdout);
    if (stop_reading)
        sleep((unsigned)seconds);
    return 0;
}
