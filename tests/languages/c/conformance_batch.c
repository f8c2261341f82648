// The conformance guest, a batch at a time.

#include <stdlib.h>

#include "commands.h"

// The headers of a message: a list of views. The list itself is to be freed.
static types_list_header_t headers_of(const types_headers_column_t *column, size_t index)
{
    types_list_header_t headers = {};
    size_t start = index == 0 ? 0 : u32_at(column->ends, index - 1), end = u32_at(column->ends, index);
    for (size_t i = start; i < end; i++) {
        bytes_t name = column_get(&column->names, i).val;
        append(&headers, (types_header_t){{name.ptr, name.len}, column_get(&column->values, i)});
    }
    return headers;
}

static outcome_t carry_out_at(const types_batch_t *batch, size_t index)
{
    const types_messages_t *messages = &batch->messages;
    types_message_t message = {
        .input = batch->input,
        .partition = batch->partition,
        .offset = u64_at(batch->offsets, index),
        .timestamp = s64_at(messages->timestamps, index),
        .value = column_get(&messages->values, index),
    };
    if (messages->keys.is_some)
        message.key = column_get(&messages->keys.val, index);
    if (messages->headers.is_some)
        message.headers = headers_of(&messages->headers.val, index);
    outcome_t outcome = carry_out(&message);
    free(message.headers.ptr);
    return outcome;
}

bool exports_batch_handler_process(exports_batch_handler_batch_t *batch, exports_batch_handler_list_rejection_t *ret,
                                   task_string_t *err)
{
    *ret = (exports_batch_handler_list_rejection_t){};
    bool is_ok = true;
    for (size_t i = 0; is_ok && i < column_len(&batch->messages.values); i++) {
        outcome_t outcome = carry_out_at(batch, i);
        if (outcome.how == REJECTED)
            append(ret, (types_rejection_t){i, outcome.reason, outcome.detail});
        if (outcome.how == ERR) {
            exports_batch_handler_list_rejection_free(ret);
            *err = outcome.reason;
            is_ok = false;
        }
    }
    exports_batch_handler_batch_free(batch);
    return is_ok;
}
