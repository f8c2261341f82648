// What the conformance guest exports besides its handler.

#include "commands.hpp"

unsigned opened;

static void log_info(std::string_view text) {
    logging_log(LOGGING_LEVEL_INFO, Text("lifecycle"), Text(text));
}

bool exports_lifecycle_open(task_string_t *err) {
    opened++;
    Store store = open_store("a");
    task_list_u8_t value;
    bool is_there = state_method_store_get(state_borrow_store(*store), Bytes(std::string_view("\0", 1)), &value);
    log_info("opened");
    // The value becomes the error, which the bindings free.
    if (is_there)
        *err = {value.ptr, value.len};
    return !is_there;
}

void exports_lifecycle_close() {
    log_info("closed");
}

bool exports_end_of_input_on_end(exports_end_of_input_progress_t *ret, task_string_t *err) {
    static unsigned calls;
    switch (++calls) {
    case 1:
        send_result("end again");
        *ret = EXPORTS_END_OF_INPUT_PROGRESS_AGAIN;
        return true;
    case 2:
        send_result("end done");
        *ret = EXPORTS_END_OF_INPUT_PROGRESS_DONE;
        return true;
    default:
        *err = given<task_string_t>("a third call");
        return false;
    }
}
