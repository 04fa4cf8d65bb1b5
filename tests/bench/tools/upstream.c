/*
 * upstream: a fake vLLM in one epoll thread, fast enough not to be what is measured.
 *
 *   upstream PORT[,PORT...] [MODEL]
 *
 * POST .../chat/completions answers one fixed JSON body, or with "stream":true a stream. A prompt that holds
 * @@n=100,d=20000@@ chooses n content chunks, d microseconds apart (0: as fast as they are taken). Each chunk carries
 * the time it was sent, as @t0000001234567890@, so that the load generator knows how long it was under way.
 * With "continuous_usage_stats":true in the body every frame carries a usage object, as vLLM's do.
 *
 * POST .../render and /tokenize answer token ids; GET /stats answers counters; any other GET a list of models.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 512
#define PROMPT_TOKENS 212
#define HEAD "HTTP/1.1 200 OK\r\ndate: Fri, 21 Nov 2026 09:00:00 GMT\r\nserver: uvicorn\r\n"
#define JSON_HEAD HEAD "content-length: %zu\r\ncontent-type: application/json\r\n\r\n"
#define STREAM_HEAD HEAD "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
#define OBJECT(kind)                                                                                                   \
    "{\"id\":\"chatcmpl-6f1c9a5d2b7e4c08a3f0d1e2b3c4d5e6\",\"object\":\"" kind                                         \
    "\",\"created\":1763700000,\"model\":\"%s\","
#define CHUNK OBJECT("chat.completion.chunk")

typedef unsigned long long count;

typedef struct connection {
    int fd, listening, dead;
    int wants_write;           /* EPOLLOUT is armed: the socket was full */
    int in_ready;              /* stands in the list `ready` */
    int heap_at;               /* where it stands in `heap`, -1 for nowhere */
    int streaming, with_usage; /* a stream is under way; every frame carries usage */
    int chunk, chunks;         /* the next chunk, 0 being the role frame, and the last */
    long gap_us;
    uint64_t due_us; /* when the next chunk of a paced stream goes out */
    char *in;        /* read, not yet parsed */
    size_t in_size, in_space;
    char *out; /* to be written, from out_sent on */
    size_t out_size, out_sent, out_space;
    struct connection *next_freed;
} connection;

static int epoll;
static const char *model = "bench-model";
static char json_answer[4096];
static size_t json_answer_size;
static struct {
    count requests, renders, json, streams, done, aborted, active, chunks, bytes, accepted, open, full, last_abort_us;
} stats;

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

/* Paced streams, a heap by `due_us`. */

static connection **heap;
static int heap_size, heap_space;

static void heap_swap(int a, int b) {
    connection *held = heap[a];
    heap[a] = heap[b];
    heap[b] = held;
    heap[a]->heap_at = a;
    heap[b]->heap_at = b;
}

static void heap_up(int at) {
    while (at && heap[at]->due_us < heap[(at - 1) / 2]->due_us) {
        heap_swap(at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

static void heap_down(int at) {
    for (;;) {
        int left = 2 * at + 1, first = at;
        if (left < heap_size && heap[left]->due_us < heap[first]->due_us)
            first = left;
        if (left + 1 < heap_size && heap[left + 1]->due_us < heap[first]->due_us)
            first = left + 1;
        if (first == at)
            return;
        heap_swap(at, first);
        at = first;
    }
}

static void heap_add(connection *c) {
    if (heap_size == heap_space) {
        heap_space = heap_space ? heap_space * 2 : 256;
        heap = realloc(heap, heap_space * sizeof *heap);
    }
    heap[heap_size] = c;
    c->heap_at = heap_size++;
    heap_up(c->heap_at);
}

static void heap_remove(connection *c) {
    int at = c->heap_at;
    if (at < 0)
        return;
    heap_size--;
    if (at != heap_size) {
        heap[at] = heap[heap_size];
        heap[at]->heap_at = at;
        heap_up(at);
        heap_down(at);
    }
    c->heap_at = -1;
}

/* Unpaced streams whose socket takes more: one chunk each, turn by turn. */

static connection **ready;
static int ready_size, ready_space;

static void ready_add(connection *c) {
    if (c->in_ready)
        return;
    c->in_ready = 1;
    if (ready_size == ready_space) {
        ready_space = ready_space ? ready_space * 2 : 256;
        ready = realloc(ready, ready_space * sizeof *ready);
    }
    ready[ready_size++] = c;
}

/* Connections. A closed one is freed at the end of the turn: events may still point at it. */

static connection *freed;

static void arm(connection *c) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (c->wants_write ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
}

static void hang_up(connection *c) {
    if (c->dead)
        return;
    c->dead = 1;
    stats.open--;
    if (c->streaming) {
        stats.aborted++;
        stats.active--;
        stats.last_abort_us = now_us();
    }
    heap_remove(c);
    epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, 0);
    close(c->fd);
    c->next_freed = freed;
    freed = c;
}

/* Return 1 when all is written, 0 when the socket is full, -1 when it is closed. */
static int flush(connection *c) {
    while (c->out_sent < c->out_size) {
        ssize_t written = write(c->fd, c->out + c->out_sent, c->out_size - c->out_sent);
        if (written < 0 && errno == EAGAIN) {
            stats.full++;
            if (!c->wants_write) {
                c->wants_write = 1;
                arm(c);
            }
            return 0;
        }
        if (written < 0) {
            hang_up(c);
            return -1;
        }
        stats.bytes += written;
        c->out_sent += written;
    }
    c->out_sent = c->out_size = 0;
    if (c->wants_write) {
        c->wants_write = 0;
        arm(c);
    }
    return 1;
}

static void put(connection *c, const char *bytes, size_t size) {
    if (c->out_size + size > c->out_space) {
        c->out_space = (c->out_size + size) * 2;
        c->out = realloc(c->out, c->out_space);
    }
    memcpy(c->out + c->out_size, bytes, size);
    c->out_size += size;
}

static void answer(connection *c, const char *body, size_t size) {
    char head[256];
    put(c, head, sprintf(head, JSON_HEAD, size));
    put(c, body, size);
    flush(c);
}

/* Streams: one SSE frame in one HTTP chunk, as vLLM does. */

static void put_frame(connection *c, const char *data, int size) {
    char length[32];
    put(c, length, sprintf(length, "%x\r\n", size + 8));
    put(c, "data: ", 6);
    put(c, data, size);
    put(c, "\n\n\r\n", 4);
}

static void put_end(connection *c) {
    char frame[1536];
    int size = sprintf(
        frame, CHUNK "\"choices\":[],\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d,\"completion_tokens\":%d}}",
        model, PROMPT_TOKENS, PROMPT_TOKENS + c->chunks, c->chunks);
    put_frame(c, frame, size);
    put_frame(c, "[DONE]", 6);
    put(c, "0\r\n\r\n", 5);
    c->streaming = 0;
    stats.active--;
    stats.done++;
    heap_remove(c);
}

/* Send the next chunk; the end of the stream goes out together with the last one. */
static void step(connection *c) {
    char frame[1536], usage[160] = "";
    int size;
    if (c->chunk > c->chunks)
        return;
    if (c->with_usage)
        sprintf(usage,
                ",\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d,\"completion_tokens\":%d,"
                "\"completion_tokens_details\":null}",
                PROMPT_TOKENS, PROMPT_TOKENS + c->chunk, c->chunk);
    if (c->chunk == 0)
        size = sprintf(frame,
                       CHUNK "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                             "\"logprobs\":null,\"finish_reason\":null}]%s}",
                       model, usage);
    else
        size = sprintf(frame,
                       CHUNK "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"@t%016llu@ \"},"
                             "\"logprobs\":null,\"finish_reason\":%s}]%s}",
                       model, (count)now_us(), c->chunk == c->chunks ? "\"stop\"" : "null", usage);
    put_frame(c, frame, size);
    stats.chunks++;
    c->chunk++;
    if (c->chunk > c->chunks)
        put_end(c);
    flush(c);
}

static int holds(const char *body, size_t size, const char *wanted) {
    return memmem(body, size, wanted, strlen(wanted)) != 0;
}

static void begin_stream(connection *c, const char *body, size_t size) {
    char *pace = memmem(body, size, "@@n=", 4);
    c->chunks = 100;
    c->gap_us = 0;
    if (pace) {
        char *gap = memmem(pace, 40, "d=", 2);
        c->chunks = atoi(pace + 4);
        c->gap_us = gap ? atol(gap + 2) : 0;
    }
    stats.streams++;
    stats.active++;
    c->streaming = 1;
    c->with_usage =
        holds(body, size, "\"continuous_usage_stats\":true") || holds(body, size, "\"continuous_usage_stats\": true");
    c->chunk = 0;
    put(c, STREAM_HEAD, strlen(STREAM_HEAD));
    step(c);
    if (c->dead)
        return;
    if (c->gap_us) {
        c->due_us = now_us() + c->gap_us;
        heap_add(c);
    } else if (!c->wants_write)
        ready_add(c);
}

/* Requests. */

static void answer_tokens(connection *c) {
    char body[4096];
    int size = sprintf(body, "{\"prompt_token_ids\":[");
    for (int i = 0; i < PROMPT_TOKENS; i++)
        size += sprintf(body + size, "%s%d", i ? "," : "", 1000 + i * 37);
    size += sprintf(body + size, "],\"tokens\":[1,2,3],\"count\":%d,\"max_model_len\":32768}", PROMPT_TOKENS);
    stats.renders++;
    answer(c, body, size);
}

static void answer_stats(connection *c) {
    char body[1024];
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    count cpu_us = (count)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000ull + used.ru_utime.tv_usec +
                   used.ru_stime.tv_usec;
    int size = sprintf(body,
                       "{\"req\":%llu,\"render\":%llu,\"json\":%llu,\"streams\":%llu,\"done\":%llu,\"aborted\":%llu,"
                       "\"active\":%llu,\"chunks\":%llu,\"bytes\":%llu,\"conns\":%llu,\"open\":%llu,\"eagain\":%llu,"
                       "\"lastabort_us\":%llu,\"now_us\":%llu,\"cpu_us\":%llu}",
                       stats.requests, stats.renders, stats.json, stats.streams, stats.done, stats.aborted,
                       stats.active, stats.chunks, stats.bytes, stats.accepted, stats.open, stats.full,
                       stats.last_abort_us, (count)now_us(), cpu_us);
    answer(c, body, size);
}

static void answer_models(connection *c) {
    char body[512];
    int size = sprintf(
        body,
        "{\"object\":\"list\",\"model_path\":\"%s\",\"served_model_name\":\"%s\",\"data\":[{\"id\":\"%s\","
        "\"object\":\"model\",\"created\":1763700000,\"owned_by\":\"vllm\",\"root\":\"%s\",\"max_model_len\":32768}]}",
        model, model, model, model);
    answer(c, body, size);
}

static void handle(connection *c, const char *head, const char *body, size_t size) {
    int post = !strncmp(head, "POST ", 5);
    const char *path = strchr(head, ' ') + 1;
    if (post && (memmem(path, 40, "/render", 7) || memmem(path, 20, "tokenize", 8)))
        answer_tokens(c);
    else if (post && memmem(path, 40, "completions", 11)) {
        if (holds(body, size, "\"stream\":true") || holds(body, size, "\"stream\": true"))
            begin_stream(c, body, size);
        else {
            stats.json++;
            put(c, json_answer, json_answer_size);
            flush(c);
        }
    } else if (!strncmp(path, "/stats", 6))
        answer_stats(c);
    else
        answer_models(c);
}

/* Handle one request of what was read; return 0 when there is none, whole. */
static int parse(connection *c) {
    c->in[c->in_size] = 0;
    char *blank = memmem(c->in, c->in_size, "\r\n\r\n", 4);
    if (!blank)
        return 0;
    size_t head_size = blank - c->in + 4, body_size = 0, whole = head_size;
    char held = blank[2];
    blank[2] = 0; /* so that the search for headers ends with the head */
    char *length = strcasestr(c->in, "\r\ncontent-length:");
    char *chunked = strcasestr(c->in, "\r\ntransfer-encoding: chunked");
    blank[2] = held;
    if (length) {
        body_size = strtoul(length + 17, 0, 10);
        whole = head_size + body_size;
        if (c->in_size < whole)
            return 0;
    } else if (chunked) {
        char *last = memmem(c->in + head_size, c->in_size - head_size, "0\r\n\r\n", 5);
        if (!last)
            return 0;
        body_size = last - (c->in + head_size);
        whole = head_size + body_size + 5;
    }
    stats.requests++;
    int known = !strncmp(c->in, "POST ", 5) || !strncmp(c->in, "GET ", 4) || !strncmp(c->in, "HEAD ", 5);
    if (!known || head_size < 14) {
        hang_up(c);
        return 0;
    }
    handle(c, c->in, c->in + head_size, body_size);
    if (c->dead)
        return 0;
    memmove(c->in, c->in + whole, c->in_size - whole);
    c->in_size -= whole;
    return 1;
}

static void parse_all(connection *c) {
    while (!c->dead && !c->streaming && c->in_size && parse(c))
        ;
}

static void on_read(connection *c) {
    for (;;) {
        if (c->in_space - c->in_size < 4096) {
            c->in_space = c->in_space ? c->in_space * 2 : 8192;
            c->in = realloc(c->in, c->in_space);
        }
        size_t room = c->in_space - c->in_size - 1;
        ssize_t got = read(c->fd, c->in + c->in_size, room);
        if (got < 0 && errno == EAGAIN)
            break;
        if (got <= 0) {
            hang_up(c);
            return;
        }
        c->in_size += got;
        if ((size_t)got < room)
            break;
    }
    parse_all(c);
}

static void on_write(connection *c) {
    if (flush(c) < 1)
        return;
    if (c->streaming && !c->gap_us)
        ready_add(c);
    else
        parse_all(c);
}

/* The loop. */

static void watch(connection *c, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    c->fd = fd;
    c->heap_at = -1;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&address, sizeof address) || listen(fd, 4096)) {
        perror("upstream: bind");
        return 0;
    }
    connection *c = calloc(1, sizeof *c);
    c->listening = 1;
    watch(c, fd, EPOLLIN);
    return 1;
}

static void accept_all(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        stats.accepted++;
        stats.open++;
        watch(calloc(1, sizeof(connection)), fd, EPOLLIN | EPOLLRDHUP);
    }
}

static int wait_ms(void) {
    if (ready_size)
        return 0;
    if (!heap_size)
        return -1;
    int64_t wait_us = (int64_t)heap[0]->due_us - (int64_t)now_us();
    return wait_us <= 0 ? 0 : (int)((wait_us + 999) / 1000);
}

static void on_event(connection *c, uint32_t events) {
    if (c->dead)
        return;
    if (c->listening) {
        accept_all(c->fd);
        return;
    }
    if (events & EPOLLOUT)
        on_write(c);
    if (!c->dead && events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        on_read(c);
}

static void step_ready(void) {
    int turn = ready_size; /* who becomes ready meanwhile waits for the next turn */
    for (int i = 0; i < turn; i++) {
        connection *c = ready[i];
        c->in_ready = 0;
        if (c->dead || !c->streaming || c->wants_write)
            continue;
        step(c);
        if (!c->dead && c->streaming && !c->wants_write)
            ready_add(c);
        else if (!c->dead && !c->streaming && c->in_size)
            parse(c);
    }
    memmove(ready, ready + turn, (ready_size - turn) * sizeof *ready);
    ready_size -= turn;
}

static void step_due(void) {
    uint64_t now = now_us();
    while (heap_size && heap[0]->due_us <= now) {
        connection *c = heap[0];
        if (c->wants_write) { /* a full socket: look again in a millisecond */
            c->due_us = now + 1000;
            heap_down(0);
            continue;
        }
        step(c);
        if (c->dead || c->heap_at < 0) {
            if (!c->dead && c->in_size)
                parse(c);
            continue;
        }
        c->due_us += c->gap_us;
        if (c->due_us < now)
            c->due_us = now;
        heap_down(c->heap_at);
    }
}

static void free_closed(void) {
    while (freed) {
        connection *c = freed;
        freed = c->next_freed;
        for (int i = 0; i < ready_size; i++)
            if (ready[i] == c)
                ready[i--] = ready[--ready_size];
        free(c->in);
        free(c->out);
        free(c);
    }
}

static void prepare_json_answer(void) {
    char body[2048];
    size_t size = sprintf(
        body,
        OBJECT("chat.completion") "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
                                  "\"content\":\"The quick brown fox jumps over the lazy dog and keeps running through "
                                  "the long "
                                  "grass until it reaches the river, where it stops to drink.\",\"refusal\":null,"
                                  "\"reasoning_content\":null,\"tool_calls\":[]},\"logprobs\":null,\"finish_reason\":"
                                  "\"stop\","
                                  "\"stop_reason\":null}],\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d,"
                                  "\"completion_tokens\":32,\"prompt_tokens_details\":null},\"prompt_logprobs\":null,"
                                  "\"kv_transfer_params\":null}",
        model, PROMPT_TOKENS, PROMPT_TOKENS + 32);
    json_answer_size = sprintf(json_answer, JSON_HEAD "%s", size, body);
}

int main(int argc, char **argv) {
    struct epoll_event events[EVENTS];
    if (argc < 2) {
        fprintf(stderr, "usage: upstream PORT[,PORT...] [MODEL]\n");
        return 2;
    }
    if (argc > 2)
        model = argv[2];
    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(0);
    prepare_json_answer();
    for (char *port = strtok(argv[1], ","); port; port = strtok(0, ","))
        if (!listen_on(atoi(port)))
            return 1;
    for (;;) {
        int happened = epoll_wait(epoll, events, EVENTS, wait_ms());
        for (int i = 0; i < happened; i++)
            on_event(events[i].data.ptr, events[i].events);
        if (ready_size)
            step_ready();
        step_due();
        free_closed();
    }
}
