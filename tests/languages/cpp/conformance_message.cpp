// The conformance guest, a message at a time.

#include "commands.hpp"

bool exports_message_handler_process(exports_message_handler_message_t *message, task_string_t *err) {
    Owned<exports_message_handler_message_free> owned(*message);
    Message view_of{
        .input = owned->input,
        .partition = owned->partition,
        .offset = owned->offset,
        .timestamp = owned->timestamp,
        .key = view_maybe(owned->key),
        .value = view_maybe(owned->value),
    };
    for (std::size_t i = 0; i < owned->headers.len; i++)
        view_of.headers.emplace_back(view(owned->headers.ptr[i].name), view_maybe(owned->headers.ptr[i].value));

    Outcome outcome = carry_out(view_of);
    if (outcome.how == Outcome::done)
        return true;
    *err = given<task_string_t>(outcome.reason);
    return false;
}
