// The conformance guest, a message at a time.

#include "commands.h"

bool exports_message_handler_process(exports_message_handler_message_t *message, task_string_t *err)
{
    outcome_t outcome = carry_out(message);
    exports_message_handler_message_free(message);
    task_option_list_u8_free(&outcome.detail); // a single message is rejected without one
    *err = outcome.reason;
    return outcome.how == DONE;
}
