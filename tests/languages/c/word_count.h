// How often each word of a text occurs: what is the same whether lines come one at a time or in batches.

#ifndef WORD_COUNT_H
#define WORD_COUNT_H

#include "guest.h"

// A word, and how often it has been seen.
typedef struct {
    bytes_t word;
    uint64_t count;
} count_t;

// The store `counts`, opened once: a handle is good for as long as the instance lives.
state_borrow_store_t counts(void);

// Takes the next word off a line, as a view into it; false at the end of the line. A word is a run of the letters A to Z and
// of apostrophes, without the apostrophes at its ends, which are quotation marks. It is put into lower case in place.
bool next_word(bytes_t *line, bytes_t *word);

// A count as it is stored: a decimal number. What is not there counts as 0.
uint64_t read_count(maybe_bytes_t stored);
bytes_t write_count(uint64_t count);

// The value of the message that says a count.
bytes_t count_message(count_t count);

// Sends that message to a port.
void send_count(const char *port, count_t count);

#endif
