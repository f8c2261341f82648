// The counter in every shape of wit/shapes.wit, on the C bindings of wit-bindgen.
//
// WebAssembly is little-endian, so a column and a packed column look the same in memory: one view serves both.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shapes.h"

typedef shapes_list_u8_t bytes_t;

// The longest key that a host gives.
enum { KEY_MAX = 8 << 10 };

// What the counter needs of a message. It points into the arguments of the call.
typedef struct {
    bytes_t key, value;
    uint64_t offset;
    int64_t timestamp;
} message_t;

// The state of a key, as it is stored.
typedef struct {
    uint64_t count, sum, max;
} state_t;

static shapes_string_t port = {(uint8_t *)"out", 3};

static uint64_t first_byte(message_t message)
{
    return message.value.len > 0 ? message.value.ptr[0] : 0;
}

static uint64_t touch(message_t message)
{
    return message.key.len + first_byte(message) + message.offset + (uint64_t)message.timestamp;
}

// The state in an entry, which is empty where a key has none.
static state_t read_state(bytes_t entry)
{
    state_t state = {};
    if (entry.len == sizeof state)
        memcpy(&state, entry.ptr, sizeof state);
    return state;
}

static void count(state_t *state, message_t message)
{
    uint64_t first = first_byte(message);
    state->count++;
    state->sum += first;
    if (state->max < first)
        state->max = first;
}

static void count_single(message_t message)
{
    bytes_t entry;
    state_t state = {};
    if (store_get(&message.key, &entry)) {
        state = read_state(entry);
        shapes_list_u8_free(&entry);
    }
    count(&state, message);
    entry = (bytes_t){(uint8_t *)&state, sizeof state};
    store_put(&message.key, &entry);

    static uint8_t sent[KEY_MAX + sizeof state];
    memcpy(sent, message.key.ptr, message.key.len);
    memcpy(sent + message.key.len, &state, sizeof state);
    store_outgoing_t outgoing = {
        .key = {true, message.key},
        .value = {true, {sent, message.key.len + sizeof state}},
    };
    store_send(&port, &outgoing);
}

// The messages of a call while they are counted, and what comes of them: an entry for each message in `states` and `sent`.
typedef struct {
    size_t len, counted;
    // The places of keys in `keys` and `latest`, plus one, by hash; 0 where there is none.
    uint32_t *places;
    size_t mask;
    size_t known;
    bytes_t *keys;
    state_t *latest;
    state_t *states;
    uint32_t *state_ends, *sent_ends;
    uint8_t *sent;
} many_t;

static void *allocate(size_t count, size_t size)
{
    void *memory = malloc(count * size);
    if (memory == NULL && count > 0)
        abort();
    return memory;
}

// Begins to count `len` messages with `key_bytes` bytes of keys.
static many_t many_begin(size_t len, size_t key_bytes)
{
    size_t slots = 2;
    while (slots < 2 * len)
        slots *= 2;
    uint32_t *places = allocate(slots, sizeof *places);
    memset(places, 0, slots * sizeof *places);
    return (many_t){
        .len = len,
        .places = places,
        .mask = slots - 1,
        .keys = allocate(len, sizeof(bytes_t)),
        .latest = allocate(len, sizeof(state_t)),
        .states = allocate(len, sizeof(state_t)),
        .state_ends = allocate(len, sizeof(uint32_t)),
        .sent_ends = allocate(len, sizeof(uint32_t)),
        .sent = allocate(len * sizeof(state_t) + key_bytes, 1),
    };
}

static void many_free(many_t *many)
{
    free(many->places);
    free(many->keys);
    free(many->latest);
    free(many->states);
    free(many->state_ends);
    free(many->sent_ends);
    free(many->sent);
}

// FNV-1a.
static uint32_t hash(bytes_t key)
{
    uint32_t hash = 2166136261;
    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ key.ptr[i]) * 16777619;
    return hash;
}

// The state of a key so far: what is stored, at its first message.
static state_t *many_state(many_t *many, bytes_t key, bytes_t stored)
{
    for (size_t slot = hash(key);; slot++) {
        uint32_t *place = &many->places[slot & many->mask];
        if (*place == 0) {
            *place = ++many->known;
            many->keys[*place - 1] = key;
            many->latest[*place - 1] = read_state(stored);
            return &many->latest[*place - 1];
        }
        bytes_t known = many->keys[*place - 1];
        if (known.len == key.len && memcmp(known.ptr, key.ptr, key.len) == 0)
            return &many->latest[*place - 1];
    }
}

static void many_count(many_t *many, message_t message, bytes_t stored)
{
    state_t *state = many_state(many, message.key, stored);
    count(state, message);

    size_t i = many->counted++;
    many->states[i] = *state;
    many->state_ends[i] = (i + 1) * sizeof *state;
    uint32_t at = i == 0 ? 0 : many->sent_ends[i - 1];
    memcpy(many->sent + at, message.key.ptr, message.key.len);
    memcpy(many->sent + at + message.key.len, state, sizeof *state);
    many->sent_ends[i] = at + message.key.len + sizeof *state;
}

// A message a call.

static message_t of_row(const types_message_t *row)
{
    return (message_t){
        .key = row->key.is_some ? row->key.val : (bytes_t){},
        .value = row->value.is_some ? row->value.val : (bytes_t){},
        .offset = row->offset,
        .timestamp = row->timestamp,
    };
}

uint64_t exports_one_touch(exports_one_message_t *row)
{
    uint64_t sum = touch(of_row(row));
    exports_one_message_free(row);
    return sum;
}

void exports_one_count_single(exports_one_message_t *row)
{
    count_single(of_row(row));
    exports_one_message_free(row);
}

// Columns of either kind.

// Byte strings end to end. What is absent is empty, and an empty entry means the same to the counter.
typedef struct {
    size_t len;
    const uint8_t *ends;
    uint8_t *data;
} view_t;

static view_t view(const store_bytes_column_t *column)
{
    return (view_t){column->ends.len, (const uint8_t *)column->ends.ptr, column->data.ptr};
}

static view_t view_packed(const store_packed_column_t *column)
{
    return (view_t){column->ends.len / sizeof(uint32_t), column->ends.ptr, column->data.ptr};
}

static uint32_t end_at(view_t view, size_t i)
{
    uint32_t end;
    memcpy(&end, view.ends + i * sizeof end, sizeof end);
    return end;
}

static bytes_t entry_at(view_t view, size_t i)
{
    uint32_t start = i == 0 ? 0 : end_at(view, i - 1);
    return (bytes_t){view.data + start, end_at(view, i) - start};
}

typedef struct {
    size_t len;
    view_t keys, values;
    const uint8_t *offsets, *timestamps;
} batch_t;

static batch_t of_columns(const exports_columns_batch_t *batch)
{
    return (batch_t){
        .len = batch->offsets.len,
        .keys = view(&batch->messages.keys.val),
        .values = view(&batch->messages.values),
        .offsets = (const uint8_t *)batch->offsets.ptr,
        .timestamps = (const uint8_t *)batch->messages.timestamps.ptr,
    };
}

static batch_t of_packed(const exports_packed_packed_batch_t *batch)
{
    return (batch_t){
        .len = batch->offsets.len / sizeof(uint64_t),
        .keys = view_packed(&batch->messages.keys.val),
        .values = view_packed(&batch->messages.values),
        .offsets = batch->offsets.ptr,
        .timestamps = batch->messages.timestamps.ptr,
    };
}

static message_t message_at(const batch_t *batch, size_t i)
{
    message_t message = {.key = entry_at(batch->keys, i), .value = entry_at(batch->values, i)};
    memcpy(&message.offset, batch->offsets + i * sizeof message.offset, sizeof message.offset);
    memcpy(&message.timestamp, batch->timestamps + i * sizeof message.timestamp, sizeof message.timestamp);
    return message;
}

static uint64_t touch_batch(batch_t batch)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < batch.len; i++)
        sum += touch(message_at(&batch, i));
    return sum;
}

static void count_batch_single(batch_t batch)
{
    for (size_t i = 0; i < batch.len; i++)
        count_single(message_at(&batch, i));
}

static many_t count_batch_many(batch_t batch, view_t stored)
{
    many_t many = many_begin(batch.len, batch.len == 0 ? 0 : end_at(batch.keys, batch.len - 1));
    for (size_t i = 0; i < batch.len; i++)
        many_count(&many, message_at(&batch, i), entry_at(stored, i));
    return many;
}

// Writes and sends what was counted, under the keys of the messages.
static void write_columns(store_bytes_column_t keys, many_t *many)
{
    size_t len = many->len;
    store_bytes_column_t states = {
        .ends = {many->state_ends, len},
        .data = {(uint8_t *)many->states, len * sizeof(state_t)},
    };
    store_put_many(&keys, &states);
    store_messages_t messages = {
        .keys = {true, keys},
        .values = {
            .ends = {many->sent_ends, len},
            .data = {many->sent, len == 0 ? 0 : many->sent_ends[len - 1]},
        },
    };
    store_send_many(&port, &messages, NULL);
    many_free(many);
}

static void write_packed(store_packed_column_t keys, many_t *many)
{
    size_t len = many->len;
    store_packed_column_t states = {
        .ends = {(uint8_t *)many->state_ends, len * sizeof(uint32_t)},
        .data = {(uint8_t *)many->states, len * sizeof(state_t)},
    };
    store_put_many_packed(&keys, &states);
    store_packed_messages_t messages = {
        .keys = {true, keys},
        .values = {
            .ends = {(uint8_t *)many->sent_ends, len * sizeof(uint32_t)},
            .data = {many->sent, len == 0 ? 0 : many->sent_ends[len - 1]},
        },
    };
    store_send_many_packed(&port, &messages, NULL);
    many_free(many);
}

uint64_t exports_columns_touch(exports_columns_batch_t *batch)
{
    uint64_t sum = touch_batch(of_columns(batch));
    exports_columns_batch_free(batch);
    return sum;
}

void exports_columns_count_single(exports_columns_batch_t *batch)
{
    count_batch_single(of_columns(batch));
    exports_columns_batch_free(batch);
}

void exports_columns_count_many(exports_columns_batch_t *batch)
{
    store_bytes_column_t stored, keys = batch->messages.keys.val;
    store_get_many(&keys, &stored);
    many_t many = count_batch_many(of_columns(batch), view(&stored));
    store_bytes_column_free(&stored);
    write_columns(keys, &many);
    exports_columns_batch_free(batch);
}

uint64_t exports_packed_touch(exports_packed_packed_batch_t *batch)
{
    uint64_t sum = touch_batch(of_packed(batch));
    exports_packed_packed_batch_free(batch);
    return sum;
}

void exports_packed_count_single(exports_packed_packed_batch_t *batch)
{
    count_batch_single(of_packed(batch));
    exports_packed_packed_batch_free(batch);
}

void exports_packed_count_many(exports_packed_packed_batch_t *batch)
{
    store_packed_column_t stored, keys = batch->messages.keys.val;
    store_get_many_packed(&keys, &stored);
    many_t many = count_batch_many(of_packed(batch), view_packed(&stored));
    store_packed_column_free(&stored);
    write_packed(keys, &many);
    exports_packed_packed_batch_free(batch);
}

// Rows.

uint64_t exports_rows_touch(exports_rows_list_message_t *rows)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < rows->len; i++)
        sum += touch(of_row(&rows->ptr[i]));
    exports_rows_list_message_free(rows);
    return sum;
}

void exports_rows_count_single(exports_rows_list_message_t *rows)
{
    for (size_t i = 0; i < rows->len; i++)
        count_single(of_row(&rows->ptr[i]));
    exports_rows_list_message_free(rows);
}

void exports_rows_count_many(exports_rows_list_message_t *rows)
{
    size_t key_bytes = 0;
    for (size_t i = 0; i < rows->len; i++)
        key_bytes += of_row(&rows->ptr[i]).key.len;
    store_bytes_column_t stored, keys = {
        .ends = {allocate(rows->len, sizeof(uint32_t)), rows->len},
        .data = {allocate(key_bytes, 1), key_bytes},
    };
    uint32_t end = 0;
    for (size_t i = 0; i < rows->len; i++) {
        bytes_t key = of_row(&rows->ptr[i]).key;
        memcpy(keys.data.ptr + end, key.ptr, key.len);
        keys.ends.ptr[i] = end += key.len;
    }

    store_get_many(&keys, &stored);
    many_t many = many_begin(rows->len, key_bytes);
    for (size_t i = 0; i < rows->len; i++)
        many_count(&many, of_row(&rows->ptr[i]), entry_at(view(&stored), i));
    store_bytes_column_free(&stored);
    write_columns(keys, &many);
    store_bytes_column_free(&keys);
    exports_rows_list_message_free(rows);
}
