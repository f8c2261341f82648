// The word count, a batch of lines at a time: however many words there are, it takes one read, one write and one send.

#include <algorithm>
#include <iterator>
#include <map>

#include "word_count.hpp"

bool exports_batch_handler_process(exports_batch_handler_batch_t *batch, exports_batch_handler_list_rejection_t *ret,
                                   task_string_t *) {
    Owned<exports_batch_handler_batch_free> lines(*batch);
    std::vector<std::string> words;
    for (std::size_t i = 0; i < size(lines->messages.values); i++)
        std::ranges::move(words_of(entry(lines->messages.values, i).value_or("")), std::back_inserter(words));

    std::map<std::string, std::uint64_t> seen;
    for (const std::string &word : words)
        seen[word] = 0;
    Column keys;
    for (const auto &[word, _] : seen)
        keys.push_back(word);
    types_bytes_column_t lent_keys = keys.lend();
    Owned<types_bytes_column_free> stored;
    state_method_store_get_many(counts(), &lent_keys, stored.out());
    std::size_t index = 0;
    for (auto &[_, count] : seen)
        count = read_count(entry(*stored, index++));

    Column sent_words, sent_counts;
    for (const std::string &word : words) {
        sent_words.push_back(word);
        sent_counts.push_back(message_of({word, ++seen[word]}));
    }
    types_messages_t messages{.keys = {true, sent_words.lend()}, .values = sent_counts.lend()};
    output_send_many(Text("counts"), &messages, nullptr);

    Column values;
    for (const auto &[_, count] : seen)
        values.push_back(std::to_string(count));
    types_bytes_column_t lent_values = values.lend();
    state_method_store_put_many(counts(), &lent_keys, &lent_values, nullptr);

    *ret = {};
    return true;
}
