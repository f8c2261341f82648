// The word count, a line at a time.

#include "word_count.hpp"

bool exports_message_handler_process(exports_message_handler_message_t *message, task_string_t *) {
    Owned<exports_message_handler_message_free> line(*message);
    for (const std::string &word : words_of(view_maybe(line->value).value_or(""))) {
        Owned<task_option_list_u8_free> stored;
        stored.out()->is_some = state_method_store_get(counts(), Bytes(word), &stored.out()->val);
        Count seen{word, read_count(view_maybe(*stored)) + 1};
        state_method_store_put(counts(), Bytes(word), Bytes(std::to_string(seen.count)), nullptr);
        send("counts", seen);
    }
    return true;
}
