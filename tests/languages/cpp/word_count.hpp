// How often each word of a text occurs: what is the same whether lines come one at a time or in batches.

#pragma once

#include "guest.hpp"

// A word, and how often it has been seen.
struct Count {
    std::string word;
    std::uint64_t count;
};

// The store `counts`, opened once: a handle is good for as long as the instance lives.
state_borrow_store_t counts();

// The words of a line, in lower case. A word is a run of the letters A to Z and of apostrophes, without the apostrophes at
// its ends, which are quotation marks.
std::vector<std::string> words_of(std::string_view line);

// A count as it is stored: a decimal number. What is not there counts as 0.
std::uint64_t read_count(MaybeView stored);

// The value of the message that says a count.
std::string message_of(const Count &count);

// Sends that message to a port.
void send(std::string_view port, const Count &count);
