// The commands of the conformance guest: the value of a message says what is done.

#pragma once

#include "guest.hpp"

// A message, lent by the bindings.
struct Message {
    std::uint32_t input;
    std::uint32_t partition;
    std::uint64_t offset;
    std::int64_t timestamp;
    MaybeView key;
    MaybeView value;
    std::vector<std::pair<std::string_view, MaybeView>> headers;
};

// How a message ended.
struct Outcome {
    enum { done, err, rejected } how = done;
    // Unless it is done: why.
    std::string reason;
    // What a rejection has to say besides.
    MaybeBytes detail;
};

// Carries out the commands of a message, and sends their results unless one of them ends it early.
Outcome carry_out(const Message &message);

// Sends a text to the port `results`.
void send_result(std::string_view text);

// How often `lifecycle.open` was called in this instance.
extern unsigned opened;
