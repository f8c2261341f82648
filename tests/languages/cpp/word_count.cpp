// How often each word of a text occurs; see the header. At the end of the text, the most frequent words are sent.

#include "word_count.hpp"

#include <algorithm>
#include <charconv>

namespace {

// How many words are sent at the end.
constexpr std::size_t top_size = 20;

// Not those of the standard library, which depend on the locale.
bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

char to_lower(char letter) {
    return letter | 0x20;
}

} // namespace

state_borrow_store_t counts() {
    static const Store store = open_store("counts");
    return state_borrow_store(*store);
}

std::vector<std::string> words_of(std::string_view line) {
    std::vector<std::string> words;
    auto at = line.begin();
    while ((at = std::find_if(at, line.end(), is_letter)) != line.end()) {
        auto end = std::find_if(at, line.end(), [](char c) { return !is_letter(c) && c != '\''; });
        std::string word(at, end);
        word.erase(word.find_last_not_of('\'') + 1);
        std::transform(word.begin(), word.end(), word.begin(), [](char c) { return is_letter(c) ? to_lower(c) : c; });
        words.push_back(std::move(word));
        at = end;
    }
    return words;
}

std::uint64_t read_count(MaybeView stored) {
    std::uint64_t count = 0;
    if (stored)
        std::from_chars(stored->data(), stored->data() + stored->size(), count);
    return count;
}

std::string message_of(const Count &count) {
    return "{\"word\":\"" + count.word + "\",\"count\":" + std::to_string(count.count) + "}";
}

void send(std::string_view port, const Count &count) {
    std::string value = message_of(count);
    types_outgoing_t message{.key = lent_maybe(count.word), .value = lent_maybe(value)};
    output_send(Text(port), &message);
}

bool exports_end_of_input_on_end(exports_end_of_input_progress_t *ret, task_string_t *) {
    state_range_t all{};
    state_scan_options_t options{};
    Cursor cursor(state_method_store_scan(counts(), &all, &options));
    // The most frequent one first. A scan goes by the alphabet, and so do words that are equally frequent.
    std::vector<Count> top;
    auto is_more_frequent = [](const Count &a, const Count &b) { return a.count > b.count; };
    for (bool more = true; more;) {
        Owned<state_entries_free> entries;
        state_method_cursor_next(state_borrow_cursor(*cursor), 1000, 1 << 20, entries.out());
        more = size(entries->keys) > 0;
        for (std::size_t i = 0; i < size(entries->keys); i++) {
            Count count{std::string(*entry(entries->keys, i)), read_count(entry(entries->values, i))};
            top.insert(std::upper_bound(top.begin(), top.end(), count, is_more_frequent), count);
            if (top.size() > top_size)
                top.pop_back();
        }
    }
    for (const Count &count : top)
        send("top", count);
    *ret = EXPORTS_END_OF_INPUT_PROGRESS_DONE;
    return true;
}
