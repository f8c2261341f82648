// What the conformance guest exports besides its handler.

#include "commands.h"

unsigned opened;

static void log_info(const char *text)
{
    task_string_t context = string("lifecycle"), message = string(text);
    logging_log(LOGGING_LEVEL_INFO, &context, &message);
}

bool exports_lifecycle_open(task_string_t *err)
{
    opened++;
    task_string_t name = string("a");
    state_own_store_t store;
    state_open_error_t error;
    if (!state_static_store_open(&name, &store, &error))
        fail("the store a cannot be opened");
    bytes_t key = {(uint8_t[]){0x00}, 1}, value;
    bool is_there = state_method_store_get(state_borrow_store(store), &key, &value);
    state_store_drop_own(store);
    log_info("opened");
    // The value becomes the error, which the bindings free.
    if (is_there)
        *err = (task_string_t){value.ptr, value.len};
    return !is_there;
}

void exports_lifecycle_close(void)
{
    log_info("closed");
}

bool exports_end_of_input_on_end(exports_end_of_input_progress_t *ret, task_string_t *err)
{
    static unsigned calls;
    switch (++calls) {
    case 1:
        send_result(string("end again"));
        *ret = EXPORTS_END_OF_INPUT_PROGRESS_AGAIN;
        return true;
    case 2:
        send_result(string("end done"));
        *ret = EXPORTS_END_OF_INPUT_PROGRESS_DONE;
        return true;
    default:
        task_string_dup(err, "a third call");
        return false;
    }
}
