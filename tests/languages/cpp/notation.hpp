// How bytes, numbers and texts are written in the commands of the conformance guest, and shown in their results.

#pragma once

#include <charconv>

#include "guest.hpp"

// The pieces of a text between the places where a character stands, without empty ones.
std::vector<std::string_view> split(std::string_view text, char at);

// The parts of a word before and after a character, which must be there.
std::pair<std::string_view, std::string_view> cut(std::string_view word, char at);

// These fail when the word cannot be read.
std::string read_bytes(std::string_view word);
MaybeBytes read_maybe_bytes(std::string_view word);
template <typename Number> Number read_number(std::string_view word) {
    Number number;
    const char *end = word.data() + word.size();
    auto [stopped, error] = std::from_chars(word.data(), end, number);
    if (error != std::errc() || stopped != end)
        fail(std::string(word) + " is not a number, or out of range");
    return number;
}

// Numbers separated by commas.
template <typename Number> std::vector<Number> read_numbers(std::string_view word) {
    std::vector<Number> numbers;
    for (std::string_view number : split(word, ','))
        numbers.push_back(read_number<Number>(number));
    return numbers;
}

// A word with spaces in place of underscores.
std::string read_text(std::string_view word);

std::string show(MaybeView bytes);
