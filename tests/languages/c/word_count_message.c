// The word count, a line at a time.

#include "word_count.h"

bool exports_message_handler_process(exports_message_handler_message_t *message, [[maybe_unused]] task_string_t *err)
{
    state_borrow_store_t store = counts();
    bytes_t line = message->value.is_some ? message->value.val : (bytes_t){};
    count_t seen;
    while (next_word(&line, &seen.word)) {
        maybe_bytes_t stored;
        stored.is_some = state_method_store_get(store, &seen.word, &stored.val);
        seen.count = read_count(stored) + 1;
        task_option_list_u8_free(&stored);

        bytes_t count = write_count(seen.count);
        state_method_store_put(store, &seen.word, &count, NULL);
        task_list_u8_free(&count);

        send_count("counts", seen);
    }
    exports_message_handler_message_free(message);
    return true;
}
