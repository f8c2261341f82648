// The commands of the conformance guest: the value of a message says what is done.

#ifndef COMMANDS_H
#define COMMANDS_H

#include "guest.h"

// How a message ended.
typedef struct {
    enum { DONE, ERR, REJECTED } how;
    // Unless it is done: why, as the guest's own memory.
    task_string_t reason;
    // What a rejection has to say besides.
    maybe_bytes_t detail;
} outcome_t;

// Carries out the commands of a message, and sends their results unless one of them ends it early.
outcome_t carry_out(const types_message_t *message);

// Sends a text to the port `results`.
void send_result(task_string_t text);

// How often `lifecycle.open` was called in this instance.
extern unsigned opened;

#endif
