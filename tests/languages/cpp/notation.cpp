// How bytes, numbers and texts are written; see the header.

#include "notation.hpp"

#include <algorithm>
#include <numeric>

namespace {

// More bytes than these are shown by their number, their sum, and how they begin and end.
constexpr std::size_t shown_whole = 64;
constexpr std::size_t shown_of_long = 4;

char read_byte(std::string_view digits) {
    std::uint8_t byte;
    auto [stopped, error] = std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
    if (digits.size() != 2 || error != std::errc() || stopped != digits.data() + 2)
        fail(std::string(digits) + " is not a byte");
    return byte;
}

std::string hex(std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (std::uint8_t byte : bytes)
        text += {digits[byte >> 4], digits[byte & 0xf]};
    return text;
}

} // namespace

std::vector<std::string_view> split(std::string_view text, char at) {
    std::vector<std::string_view> pieces;
    while (!text.empty()) {
        std::string_view piece = text.substr(0, text.find(at));
        if (!piece.empty())
            pieces.push_back(piece);
        text.remove_prefix(std::min(piece.size() + 1, text.size()));
    }
    return pieces;
}

std::pair<std::string_view, std::string_view> cut(std::string_view word, char at) {
    std::size_t place = word.find(at);
    if (place == word.npos)
        fail(std::string(word) + " has no " + at);
    return {word.substr(0, place), word.substr(place + 1)};
}

std::string read_bytes(std::string_view word) {
    if (word == ".")
        return "";
    if (word.find('x') != word.npos) {
        auto [count, byte] = cut(word, 'x');
        return std::string(read_number<std::size_t>(count), read_byte(byte));
    }
    std::string bytes;
    for (std::size_t i = 0; i < word.size(); i += 2)
        bytes += read_byte(word.substr(i, 2));
    return bytes;
}

MaybeBytes read_maybe_bytes(std::string_view word) {
    return word == "~" ? std::nullopt : MaybeBytes(read_bytes(word));
}

std::string read_text(std::string_view word) {
    std::string text(word);
    std::ranges::replace(text, '_', ' ');
    return text;
}

std::string show(MaybeView bytes) {
    if (!bytes)
        return "~";
    if (bytes->empty())
        return ".";
    if (bytes->size() <= shown_whole)
        return hex(*bytes);
    auto add = [](std::uint64_t sum, std::uint8_t byte) { return sum + byte; };
    std::uint64_t sum = std::accumulate(bytes->begin(), bytes->end(), std::uint64_t(0), add);
    return "#" + std::to_string(bytes->size()) + ":" + std::to_string(sum) + ":" + hex(bytes->substr(0, shown_of_long)) + ":" +
           hex(bytes->substr(bytes->size() - shown_of_long));
}
