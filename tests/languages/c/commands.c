// The commands of the conformance guest. Each is a function that reads its words, calls the import, and writes its result.

#include "run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "notation.h"

// Cursors that are kept under a name, also after the message.
typedef struct {
    char *name;
    state_own_cursor_t cursor;
} kept_t;

static struct {
    kept_t *ptr;
    size_t len;
} kept;

// Reading words

static bool is(const char *word, const char *other)
{
    return strcmp(word, other) == 0;
}

static state_own_store_t read_store(run_t *run)
{
    char *name = word(run);
    task_string_t text = string(name);
    state_own_store_t store;
    state_open_error_t error;
    if (!state_static_store_open(&text, &store, &error))
        fail("the store %s cannot be opened", name);
    return store;
}

static state_range_t read_range(run_t *run)
{
    state_range_t range;
    range.start = read_maybe_bytes(word(run));
    range.end = read_maybe_bytes(word(run));
    return range;
}

// One of two words; true if it is the second.
static bool read_choice(run_t *run, const char *no, const char *yes)
{
    char *choice = word(run);
    if (!is(choice, no) && !is(choice, yes))
        fail("%s is neither %s nor %s", choice, no, yes);
    return is(choice, yes);
}

// Store, bounds, order, and what of the entries.
static state_own_cursor_t read_scan(run_t *run)
{
    state_own_store_t store = read_store(run);
    state_range_t range = read_range(run);
    state_scan_options_t options;
    options.reverse = read_choice(run, "up", "down");
    options.keys_only = read_choice(run, "entries", "keys");
    state_own_cursor_t cursor = state_method_store_scan(state_borrow_store(store), &range, &options);
    state_range_free(&range);
    state_store_drop_own(store);
    return cursor;
}

static kept_t *find_kept(const char *name)
{
    for (size_t i = 0; i < kept.len; i++)
        if (is(kept.ptr[i].name, name))
            return &kept.ptr[i];
    return NULL;
}

static kept_t *read_kept(run_t *run)
{
    char *name = word(run);
    kept_t *found = find_kept(name);
    if (found == NULL)
        fail("there is no cursor %s", name);
    return found;
}

// What the task is told

static void do_see(run_t *run)
{
    const types_message_t *message = run->message;
    fprintf(run->out, "see input=%" PRIu32 " partition=%" PRIu32, message->input, message->partition);
    fprintf(run->out, " offset=%" PRIu64 " timestamp=%" PRId64 " key=", message->offset, message->timestamp);
    show_bytes(run->out, message->key);
    fputs(" value=", run->out);
    show_bytes(run->out, message->value);
    fputs(message->headers.len > 0 ? " headers=" : " headers=-", run->out);
    for (size_t i = 0; i < message->headers.len; i++) {
        const types_header_t *header = &message->headers.ptr[i];
        fputs(i > 0 ? "," : "", run->out);
        show_text(run->out, header->name);
        fputc('=', run->out);
        show_bytes(run->out, header->value);
    }
}

static void show_about(run_t *run, const char *name, void (*get)(task_string_t *))
{
    task_string_t text;
    get(&text);
    fprintf(run->out, " %s=", name);
    show_text(run->out, text);
    task_string_free(&text);
}

static void do_context(run_t *run)
{
    static const char *const kinds[] = {"partitioned", "broadcast", "other"};
    fputs("context", run->out);
    show_about(run, "job", context_job);
    show_about(run, "stage", context_stage);
    show_about(run, "task", context_task);
    fprintf(run->out, " partition=%" PRIu32 " partitions=%" PRIu32, context_partition(), context_partitions());

    context_list_input_t inputs;
    context_inputs(&inputs);
    for (size_t i = 0; i < inputs.len; i++) {
        fputs(i > 0 ? "," : " inputs=", run->out);
        show_text(run->out, inputs.ptr[i].port);
        fprintf(run->out, ":%s", kinds[inputs.ptr[i].kind.tag]);
    }
    context_list_input_free(&inputs);

    task_string_t version;
    context_component_version(&version);
    fprintf(run->out, " version=%zu", version.len);
    task_string_free(&version);
}

static void do_now(run_t *run)
{
    int64_t now = context_now_ms();
    bool is_good = now == context_now_ms() && now > 1600000000000;
    fputs(is_good ? "now same" : "now differs", run->out);
}

static void do_opened(run_t *run)
{
    fprintf(run->out, "opened %u", opened);
}

static void do_config(run_t *run)
{
    task_string_t name = string(word(run));
    task_option_string_t value;
    config_error_t error;
    if (!config_get(&name, &value, &error))
        fail("the configuration cannot be read");
    fputs("config ", run->out);
    show_text(run->out, value.is_some ? value.val : string("~"));
    task_option_string_free(&value);
}

static int compare_names(const void *a, const void *b)
{
    const task_string_t *x = &((const task_tuple2_string_string_t *)a)->f0;
    const task_string_t *y = &((const task_tuple2_string_string_t *)b)->f0;
    int order = memcmp(x->ptr, y->ptr, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static void do_config_all(run_t *run)
{
    task_list_tuple2_string_string_t all;
    config_error_t error;
    if (!config_get_all(&all, &error))
        fail("the configuration cannot be read");
    qsort(all.ptr, all.len, sizeof *all.ptr, compare_names);
    fputs("config-all", run->out);
    for (size_t i = 0; i < all.len; i++) {
        fputc(i > 0 ? ',' : ' ', run->out);
        show_text(run->out, all.ptr[i].f0);
        fputc('=', run->out);
        show_text(run->out, all.ptr[i].f1);
    }
    task_list_tuple2_string_string_free(&all);
}

// State

static void do_open(run_t *run)
{
    task_string_t name = string(word(run));
    state_own_store_t store;
    state_open_error_t error;
    if (state_static_store_open(&name, &store, &error)) {
        state_store_drop_own(store);
        fputs("open ok", run->out);
    } else {
        fputs(error.tag == STATE_OPEN_ERROR_NO_SUCH_STORE ? "open no-such-store" : "open other", run->out);
        state_open_error_free(&error);
    }
}

static void do_get(run_t *run)
{
    state_own_store_t store = read_store(run);
    bytes_t key = read_bytes(word(run));
    maybe_bytes_t value;
    value.is_some = state_method_store_get(state_borrow_store(store), &key, &value.val);
    fputs("get ", run->out);
    show_bytes(run->out, value);
    task_option_list_u8_free(&value);
    task_list_u8_free(&key);
    state_store_drop_own(store);
}

static void put(run_t *run, state_put_options_t *options)
{
    state_own_store_t store = read_store(run);
    bytes_t key = read_bytes(word(run));
    bytes_t value = read_bytes(word(run));
    state_method_store_put(state_borrow_store(store), &key, &value, options);
    fputs("put", run->out);
    task_list_u8_free(&value);
    task_list_u8_free(&key);
    state_store_drop_own(store);
}

static void do_put(run_t *run)
{
    put(run, NULL);
}

static void do_put_options(run_t *run)
{
    state_put_options_t options = {.ttl_ms.is_some = false};
    put(run, &options);
}

static void do_delete(run_t *run)
{
    state_own_store_t store = read_store(run);
    bytes_t key = read_bytes(word(run));
    state_method_store_delete(state_borrow_store(store), &key);
    fputs("delete", run->out);
    task_list_u8_free(&key);
    state_store_drop_own(store);
}

static void do_increment(run_t *run)
{
    state_own_store_t store = read_store(run);
    bytes_t key = read_bytes(word(run));
    int64_t by = read_signed(word(run));
    int64_t sum = state_method_store_increment(state_borrow_store(store), &key, by);
    fprintf(run->out, "increment %" PRId64, sum);
    task_list_u8_free(&key);
    state_store_drop_own(store);
}

// Reads bytes and appends them to a column.
static void append_read(column_t *column, const char *word)
{
    maybe_bytes_t entry = read_maybe_bytes(word);
    column_append(column, entry);
    task_option_list_u8_free(&entry);
}

static void do_get_many(run_t *run)
{
    state_own_store_t store = read_store(run);
    column_t keys = {}, values;
    for (char *key; (key = more(run)) != NULL;)
        append_read(&keys, key);
    state_method_store_get_many(state_borrow_store(store), &keys, &values);
    fputs("get-many", run->out);
    for (size_t i = 0; i < column_len(&values); i++) {
        fputc(' ', run->out);
        show_bytes(run->out, column_get(&values, i));
    }
    types_bytes_column_free(&values);
    types_bytes_column_free(&keys);
    state_store_drop_own(store);
}

static void do_put_many(run_t *run)
{
    state_own_store_t store = read_store(run);
    column_t keys = {}, values = {};
    for (char *key; (key = more(run)) != NULL;) {
        append_read(&values, cut(key, '='));
        append_read(&keys, key);
    }
    state_method_store_put_many(state_borrow_store(store), &keys, &values, NULL);
    fputs("put-many", run->out);
    types_bytes_column_free(&values);
    types_bytes_column_free(&keys);
    state_store_drop_own(store);
}

static void do_delete_range(run_t *run)
{
    state_own_store_t store = read_store(run);
    state_range_t range = read_range(run);
    state_method_store_delete_range(state_borrow_store(store), &range);
    fputs("delete-range", run->out);
    state_range_free(&range);
    state_store_drop_own(store);
}

// Shows the next entries of a cursor; false at the end.
static bool show_next(run_t *run, state_own_cursor_t cursor, uint32_t max_entries, uint32_t max_bytes)
{
    state_entries_t entries;
    state_method_cursor_next(state_borrow_cursor(cursor), max_entries, max_bytes, &entries);
    size_t len = column_len(&entries.keys);
    bool has_values = column_len(&entries.values) > 0;
    for (size_t i = 0; i < len; i++) {
        fputc(' ', run->out);
        show_bytes(run->out, column_get(&entries.keys, i));
        if (has_values) {
            fputc('=', run->out);
            show_bytes(run->out, column_get(&entries.values, i));
        }
    }
    state_entries_free(&entries);
    return len > 0;
}

static void do_scan(run_t *run)
{
    state_own_cursor_t cursor = read_scan(run);
    uint32_t max_entries = read_index(word(run));
    uint32_t max_bytes = read_index(word(run));
    fputs("scan", run->out);
    while (show_next(run, cursor, max_entries, max_bytes))
        continue;
    state_cursor_drop_own(cursor);
}

static void do_cursor(run_t *run)
{
    char *name = word(run);
    state_own_cursor_t cursor = read_scan(run);
    kept_t *found = find_kept(name);
    if (found != NULL) {
        state_cursor_drop_own(found->cursor);
        found->cursor = cursor;
    } else {
        append(&kept, (kept_t){copy_text(name, strlen(name)), cursor});
    }
    fputs("cursor", run->out);
}

static void do_next(run_t *run)
{
    kept_t *found = read_kept(run);
    uint32_t max_entries = read_index(word(run));
    uint32_t max_bytes = read_index(word(run));
    fputs("next", run->out);
    show_next(run, found->cursor, max_entries, max_bytes);
}

static void do_drop(run_t *run)
{
    kept_t *found = read_kept(run);
    state_cursor_drop_own(found->cursor);
    free(found->name);
    *found = kept.ptr[--kept.len];
    fputs("drop", run->out);
}

// Output

static void do_send(run_t *run)
{
    task_string_t port = string(word(run));
    types_outgoing_t message = {};
    message.key = read_maybe_bytes(word(run));
    message.value = read_maybe_bytes(word(run));
    char *timestamp = word(run), *partition = word(run);
    if (!is(timestamp, "~"))
        message.timestamp = (task_option_s64_t){true, read_signed(timestamp)};
    if (!is(partition, "~"))
        message.partition = (task_option_u32_t){true, read_index(partition)};
    for (char *header; (header = more(run)) != NULL;)
        append(&message.headers, read_header(header));
    output_send(&port, &message);
    fputs("send", run->out);
    types_outgoing_free(&message);
}

static void do_send_many(run_t *run)
{
    task_string_t port = string(word(run));
    types_messages_t messages = {};
    char *timestamps = word(run), *partitions = word(run);
    if (!is(timestamps, "~"))
        for (char *number; (number = strtok_r(timestamps, ",", &timestamps)) != NULL;)
            append_s64(&messages.timestamps, read_signed(number));
    bool has_partitions = !is(partitions, "~");
    bytes_t to = {};
    if (has_partitions)
        for (char *number; (number = strtok_r(partitions, ",", &partitions)) != NULL;)
            append_u32(&to, read_index(number));

    // Built beside the message, because a column must be freed even if it turns out that it is not sent.
    column_t keys = {};
    types_headers_column_t headers = {};
    for (char *rest; (rest = more(run)) != NULL;) {
        char *key = strtok_r(rest, ",", &rest);
        append_read(&messages.values, cut(key, '='));
        append_read(&keys, key);
        for (char *name; (name = strtok_r(rest, ",", &rest)) != NULL;) {
            append_read(&headers.values, cut(name, '='));
            task_string_t text = string(read_text(name));
            column_append(&headers.names, some((bytes_t){text.ptr, text.len}));
        }
        append_u32(&headers.ends, column_len(&headers.names));
    }
    messages.keys = (types_option_bytes_column_t){keys.absent.len < keys.ends.len, keys};
    messages.headers = (types_option_headers_column_t){column_len(&headers.names) > 0, headers};
    output_send_many(&port, &messages, has_partitions ? &to : NULL);
    fputs("send-many", run->out);

    task_list_u8_free(&messages.timestamps);
    types_bytes_column_free(&messages.values);
    types_headers_column_free(&headers);
    types_bytes_column_free(&keys);
    task_list_u8_free(&to);
}

// How a message ends

static void do_err(run_t *run)
{
    run->outcome.how = ERR;
    task_string_dup(&run->outcome.reason, read_text(word(run)));
}

static void do_reject(run_t *run)
{
    do_err(run);
    run->outcome.how = REJECTED;
    run->outcome.detail = read_maybe_bytes(word(run));
}

static void do_trap(run_t *run)
{
    fail("%s", read_text(word(run)));
}

// Lines, figures, requests

static void do_log(run_t *run)
{
    // In the order of the bindings' constants.
    static const char *const levels[] = {"trace", "debug", "info", "warn", "error", "critical"};
    char *name = word(run);
    logging_level_t level = 0;
    while (!is(levels[level], name))
        if (++level == sizeof levels / sizeof *levels)
            fail("there is no level %s", name);
    task_string_t context = string(read_text(word(run)));
    task_string_t text = string(read_text(word(run)));
    logging_log(level, &context, &text);
    fputs("log", run->out);
}

static void do_print(run_t *run)
{
    const char *text = read_text(word(run));
    puts(text);
    fflush(stdout);
    fprintf(stderr, "%s\n", text);
    fputs("print", run->out);
}

static void do_counter(run_t *run)
{
    task_string_t name = string(word(run));
    metrics_counter_add(&name, read_unsigned(word(run)));
    fputs("counter", run->out);
}

static void do_gauge(run_t *run)
{
    task_string_t name = string(word(run));
    metrics_gauge_set(&name, read_signed(word(run)));
    fputs("gauge", run->out);
}

static void do_histogram(run_t *run)
{
    task_string_t name = string(word(run));
    metrics_histogram_record(&name, read_signed(word(run)));
    fputs("histogram", run->out);
}

static void do_checkpoint(run_t *run)
{
    context_request_checkpoint();
    fputs("checkpoint", run->out);
}

static void do_stop(run_t *run)
{
    task_string_t reason = string(read_text(word(run)));
    context_request_stop(&reason);
    fputs("stop", run->out);
}

// All of it

static const struct {
    const char *name;
    void (*run)(run_t *);
} commands[] = {
    {"see", do_see},
    {"context", do_context},
    {"now", do_now},
    {"open", do_open},
    {"get", do_get},
    {"put", do_put},
    {"put-options", do_put_options},
    {"delete", do_delete},
    {"increment", do_increment},
    {"get-many", do_get_many},
    {"put-many", do_put_many},
    {"delete-range", do_delete_range},
    {"scan", do_scan},
    {"cursor", do_cursor},
    {"next", do_next},
    {"drop", do_drop},
    {"send", do_send},
    {"send-many", do_send_many},
    {"err", do_err},
    {"reject", do_reject},
    {"trap", do_trap},
    {"log", do_log},
    {"print", do_print},
    {"counter", do_counter},
    {"gauge", do_gauge},
    {"histogram", do_histogram},
    {"config", do_config},
    {"config-all", do_config_all},
    {"checkpoint", do_checkpoint},
    {"stop", do_stop},
    {"opened", do_opened},
};

void run_command(run_t *run)
{
    char *name = word(run);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (is(commands[i].name, name)) {
            commands[i].run(run);
            return;
        }
    fail("there is no command %s", name);
}
