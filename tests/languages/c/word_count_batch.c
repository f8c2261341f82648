// The word count, a batch of lines at a time: however many words there are, it takes one read, one write and one send.

#include <stdlib.h>
#include <string.h>

#include "word_count.h"

// Words in the order of the text; views into the batch.
typedef struct {
    count_t *ptr;
    size_t len;
} counts_t;

static int compare_words(const void *a, const void *b)
{
    const bytes_t *x = &((const count_t *)a)->word, *y = &((const count_t *)b)->word;
    int order = memcmp(x->ptr, y->ptr, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

// The words of all lines, in order.
static counts_t words_of(const types_messages_t *lines)
{
    counts_t words = {};
    for (size_t i = 0; i < column_len(&lines->values); i++) {
        bytes_t line = column_get(&lines->values, i).val, word;
        while (next_word(&line, &word))
            append(&words, (count_t){.word = word});
    }
    return words;
}

// Each word once, sorted.
static counts_t distinct(counts_t words)
{
    counts_t distinct = {};
    for (size_t i = 0; i < words.len; i++)
        append(&distinct, words.ptr[i]);
    if (distinct.len > 0)
        qsort(distinct.ptr, distinct.len, sizeof *distinct.ptr, compare_words);
    size_t kept = 0;
    for (size_t i = 0; i < distinct.len; i++)
        if (kept == 0 || compare_words(&distinct.ptr[kept - 1], &distinct.ptr[i]) != 0)
            distinct.ptr[kept++] = distinct.ptr[i];
    distinct.len = kept;
    return distinct;
}

bool exports_batch_handler_process(exports_batch_handler_batch_t *batch, exports_batch_handler_list_rejection_t *ret,
                                   [[maybe_unused]] task_string_t *err)
{
    counts_t words = words_of(&batch->messages);
    counts_t seen = distinct(words);

    column_t keys = {}, stored;
    for (size_t i = 0; i < seen.len; i++)
        column_append(&keys, some(seen.ptr[i].word));
    state_method_store_get_many(counts(), &keys, &stored);
    for (size_t i = 0; i < seen.len; i++)
        seen.ptr[i].count = read_count(column_get(&stored, i));
    types_bytes_column_free(&stored);

    types_messages_t messages = {.keys.is_some = true};
    for (size_t i = 0; i < words.len; i++) {
        count_t *count = bsearch(&words.ptr[i], seen.ptr, seen.len, sizeof *seen.ptr, compare_words);
        count->count++;
        bytes_t value = count_message(*count);
        column_append(&messages.keys.val, some(count->word));
        column_append(&messages.values, some(value));
        task_list_u8_free(&value);
    }
    task_string_t port = string("counts");
    output_send_many(&port, &messages, NULL);
    types_messages_free(&messages);

    column_t values = {};
    for (size_t i = 0; i < seen.len; i++) {
        bytes_t count = write_count(seen.ptr[i].count);
        column_append(&values, some(count));
        task_list_u8_free(&count);
    }
    state_method_store_put_many(counts(), &keys, &values, NULL);
    types_bytes_column_free(&values);
    types_bytes_column_free(&keys);

    free(seen.ptr);
    free(words.ptr);
    exports_batch_handler_batch_free(batch);
    *ret = (exports_batch_handler_list_rejection_t){};
    return true;
}
