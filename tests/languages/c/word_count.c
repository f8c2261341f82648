// How often each word of a text occurs; see the header. At the end of the text, the most frequent words are sent.

#include "word_count.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// How many words are sent at the end.
enum { TOP = 20 };

state_borrow_store_t counts(void)
{
    static state_own_store_t store;
    static bool is_open;
    if (!is_open) {
        task_string_t name = string("counts");
        state_open_error_t error;
        if (!state_static_store_open(&name, &store, &error))
            fail("the store `counts` cannot be opened");
        is_open = true;
    }
    return state_borrow_store(store);
}

// Whether it is part of a word, in ASCII, whatever the locale.
static bool is_of_word(uint8_t byte)
{
    uint8_t lower = byte | 0x20;
    return (lower >= 'a' && lower <= 'z') || byte == '\'';
}

bool next_word(bytes_t *line, bytes_t *word)
{
    uint8_t *at = line->ptr, *end = line->ptr + line->len;
    while (at < end && (!is_of_word(*at) || *at == '\''))
        at++;
    uint8_t *start = at;
    for (; at < end && is_of_word(*at); at++)
        *at |= 0x20; // an apostrophe has this bit already
    *line = (bytes_t){at, end - at};
    while (at > start && at[-1] == '\'')
        at--;
    *word = (bytes_t){start, at - start};
    return word->len > 0;
}

uint64_t read_count(maybe_bytes_t stored)
{
    uint64_t count = 0;
    for (size_t i = 0; stored.is_some && i < stored.val.len; i++)
        count = count * 10 + (stored.val.ptr[i] - '0');
    return count;
}

// A text made by a format, as bytes.
__attribute__((format(printf, 1, 2))) static bytes_t formatted(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text;
    int len = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (len < 0)
        fail("no memory for a text");
    return (bytes_t){(uint8_t *)text, len};
}

bytes_t write_count(uint64_t count)
{
    return formatted("%" PRIu64, count);
}

bytes_t count_message(count_t count)
{
    return formatted("{\"word\":\"%.*s\",\"count\":%" PRIu64 "}", (int)count.word.len, (char *)count.word.ptr, count.count);
}

void send_count(const char *port, count_t count)
{
    bytes_t value = count_message(count);
    task_string_t name = string(port);
    types_outgoing_t message = {.key = some(count.word), .value = some(value)};
    output_send(&name, &message);
    task_list_u8_free(&value);
}

// The most frequent words so far, the most frequent one first, and those that are equally frequent in the order in which
// they came.
typedef struct {
    count_t counts[TOP];
    size_t len;
} top_t;

static void rank(top_t *top, count_t count)
{
    size_t place = top->len;
    while (place > 0 && top->counts[place - 1].count < count.count)
        place--;
    if (place == TOP)
        return;
    if (top->len == TOP)
        task_list_u8_free(&top->counts[--top->len].word);
    memmove(&top->counts[place + 1], &top->counts[place], (top->len - place) * sizeof(count_t));
    top->counts[place] = (count_t){copy(count.word), count.count};
    top->len++;
}

bool exports_end_of_input_on_end(exports_end_of_input_progress_t *ret, [[maybe_unused]] task_string_t *err)
{
    state_range_t all = {};
    state_scan_options_t options = {};
    state_own_cursor_t cursor = state_method_store_scan(counts(), &all, &options);
    top_t top = {};
    for (bool more = true; more;) {
        state_entries_t entries;
        state_method_cursor_next(state_borrow_cursor(cursor), 1000, 1 << 20, &entries);
        for (size_t i = 0; i < column_len(&entries.keys); i++)
            rank(&top, (count_t){column_get(&entries.keys, i).val, read_count(column_get(&entries.values, i))});
        more = column_len(&entries.keys) > 0;
        state_entries_free(&entries);
    }
    state_cursor_drop_own(cursor);

    for (size_t i = 0; i < top.len; i++) {
        send_count("top", top.counts[i]);
        task_list_u8_free(&top.counts[i].word);
    }
    *ret = EXPORTS_END_OF_INPUT_PROGRESS_DONE;
    return true;
}
